// Package standard links every built-in component into a binary. A custom
// build imports it for its side effects, beside its own component packages.
package standard
