package hbase

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// Site is what an hbase-site.xml says, by property.
type Site map[string]string

// maxSite bounds such a file.
const maxSite = 4 << 20

// ReadSite reads a file of Hadoop's format. Of several values of a property
// the last one counts, and ${name} stands for the value of another property of
// the file.
func ReadSite(path string) (Site, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := parseSite(io.LimitReader(f, maxSite))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

func parseSite(r io.Reader) (Site, error) {
	var doc struct {
		XMLName    xml.Name `xml:"configuration"`
		Properties []struct {
			Name  string `xml:"name"`
			Value string `xml:"value"`
		} `xml:"property"`
	}
	if err := xml.NewDecoder(r).Decode(&doc); err != nil {
		if err == io.EOF {
			err = errors.New("it is empty")
		}
		return nil, err
	}
	s := make(Site)
	for _, p := range doc.Properties {
		s[strings.TrimSpace(p.Name)] = strings.TrimSpace(p.Value)
	}
	return s, nil
}

// maxExpansions is Hadoop's bound on ${…} within ${…}.
const maxExpansions = 20

// Get is a property's value, expanded; "" where there is none. What is not in
// the file stays as it is written.
func (s Site) Get(name string) string {
	v := s[name]
	for range maxExpansions {
		from := strings.Index(v, "${")
		if from < 0 {
			break
		}
		n := strings.IndexByte(v[from:], '}')
		if n < 0 {
			break
		}
		other, ok := s[v[from+2:from+n]]
		if !ok {
			break
		}
		v = v[:from] + other + v[from+n+1:]
	}
	return v
}

// Servers reads a list of servers, HOST or HOST:PORT with commas between.
func Servers(s, port string) ([]string, error) {
	var list []string
	for h := range strings.SplitSeq(s, ",") {
		if h = strings.TrimSpace(h); h == "" {
			continue
		}
		if strings.Contains(h, "/") {
			return nil, fmt.Errorf("%q: a server is HOST:PORT; HBase's node goes into znodeParent", h)
		}
		host, p, err := net.SplitHostPort(h)
		if err != nil { // without a port
			host, p = strings.Trim(h, "[]"), port
		}
		if _, err := net.LookupPort("tcp", p); err != nil || host == "" {
			return nil, fmt.Errorf("%q is not HOST:PORT", h)
		}
		list = append(list, net.JoinHostPort(host, p))
	}
	return list, nil
}
