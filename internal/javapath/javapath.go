// Package javapath writes paths as java.io.File does. Files that Flume reads,
// too, are only of use to it if their paths are equal to its own.
package javapath

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Clean drops doubled and trailing slashes, and leaves everything else
// (filepath.Clean drops a leading "./") as it is.
func Clean(p string) string {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	if len(p) > 1 {
		p = strings.TrimSuffix(p, "/")
	}
	return p
}

// Abs is Clean of an absolute path: the working directory is put before a
// relative one.
func Abs(p string) (string, error) {
	if filepath.IsAbs(p) {
		return Clean(p), nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	return Clean(wd + "/" + p), nil
}

// Home is Java's user.home: a -D property, or the user's home directory.
func Home(properties map[string]string) (string, error) {
	if home := properties["user.home"]; home != "" {
		return home, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find home directory: %w (set HOME, or give -Duser.home=DIRECTORY)", err)
	}
	return home, nil
}
