package dfs

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// store is as much of an object store as the client asks for: path-style addresses, one bucket, one user.
type store struct {
	mu      sync.Mutex
	bucket  string
	user    string
	objects map[string][]byte
	parts   map[int][]byte
	uploads int // with several parts
	refuse  int // a status for all writes
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := strings.CutPrefix(r.URL.Path, "/"+s.bucket+"/")
	q := r.URL.Query()
	fail := func(status int, code string) {
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
		}
	}
	body, err := io.ReadAll(r.Body)
	sum := md5.Sum(body)
	switch {
	case err != nil:
		fail(http.StatusBadRequest, "IncompleteBody")
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+s.user+"/"):
		fail(http.StatusForbidden, "InvalidAccessKeyId")
	case r.Method == http.MethodPut && r.Header.Get("Content-Md5") != base64.StdEncoding.EncodeToString(sum[:]):
		fail(http.StatusBadRequest, "BadDigest")
	case !ok:
		fail(http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodHead:
		o, there := s.objects[key]
		if !there {
			fail(http.StatusNotFound, "")
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(o)))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"1"`)
	case s.refuse != 0:
		fail(s.refuse, "AccessDenied")
	case r.Method == http.MethodPost && q.Has("uploads"):
		s.parts = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>%s</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>", key)
	case r.Method == http.MethodPut && q.Has("partNumber"):
		n, _ := strconv.Atoi(q.Get("partNumber"))
		s.parts[n] = body
		w.Header().Set("ETag", `"1"`)
	case r.Method == http.MethodPost && q.Has("uploadId"):
		var all []byte
		for i := 1; i <= len(s.parts); i++ {
			all = append(all, s.parts[i]...)
		}
		s.objects[key], s.uploads = all, s.uploads+1
		fmt.Fprintf(w, "<CompleteMultipartUploadResult><Bucket>bucket</Bucket><Key>%s</Key><ETag>1</ETag></CompleteMultipartUploadResult>", key)
	case r.Method == http.MethodPut:
		s.objects[key] = body
		w.Header().Set("ETag", `"1"`)
	default:
		fail(http.StatusNotImplemented, "NotImplemented")
	}
}

func (s *store) object(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	return string(o), ok
}

func startS3(t *testing.T, buffer, address string, settings ...string) (*store, *S3) {
	t.Helper()
	st := &store{bucket: "bucket", user: "me", objects: map[string][]byte{}}
	srv := httptest.NewServer(st)
	t.Cleanup(srv.Close)
	return st, openTestS3(t, srv.URL, buffer, address, settings...)
}

func openTestS3(t *testing.T, url, buffer, address string, settings ...string) *S3 {
	t.Helper()
	m := map[string]string{"endpoint": url, "path.style.access": "true", "endpoint.region": "us-east-1", "access.key": "me", "secret.key": "secret", "attempts.maximum": "1", "multipart.size": "5M"}
	for _, s := range settings {
		k, v, _ := strings.Cut(s, "=")
		m[k] = v
	}
	f, err := Open(address, Options{Log: slog.New(slog.DiscardHandler), S3: m, BufferDir: buffer})
	if err != nil {
		t.Fatal(err)
	}
	s := f.(*S3)
	s.minRetry = time.Millisecond
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// rename waits for an upload.
func rename(t *testing.T, s *S3, from, to string) error {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		if err := s.Rename(from, to); !errors.Is(err, ErrBusy) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s is not uploaded", from)
	return nil
}

func writeFile(t *testing.T, s *S3, name, text string) File {
	t.Helper()
	f, err := s.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestS3(t *testing.T) {
	buffer := t.TempDir()
	st, s := startS3(t, buffer, "s3a://bucket/x")
	f := writeFile(t, s, "/x/1/a.tmp", "hello")
	if _, ok := st.object("x/1/a"); ok {
		t.Error("it is there before it is closed")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := rename(t, s, "/x/1/a.tmp", "/x/1/a"); err != nil {
		t.Fatal(err)
	}
	if o, _ := st.object("x/1/a"); o != "hello" {
		t.Errorf("%q", o)
	}
	if left, err := os.ReadDir(filepath.Join(buffer, "bucket")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v: the buffer is not empty", left, err)
	}
	// Nothing is overwritten.
	if err := writeFile(t, s, "/x/1/a.tmp", "other").Close(); err != nil {
		t.Fatal(err)
	}
	if err := rename(t, s, "/x/1/a.tmp", "/x/1/a"); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if err := rename(t, s, "/x/1/a.tmp", "/x/1/a-1"); err != nil {
		t.Fatal(err)
	}
	if err := rename(t, s, "/x/1/a.tmp", "/x/1/a-1"); !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("uploaded twice: %v", err)
	}
	// In several parts.
	long := strings.Repeat("0123456789abcdef", 12<<20/16)
	if err := writeFile(t, s, "/x/long.tmp", long).Close(); err != nil {
		t.Fatal(err)
	}
	if err := rename(t, s, "/x/long.tmp", "/x/long"); err != nil {
		t.Fatal(err)
	}
	if o, _ := st.object("x/long"); o != long || st.uploads != 1 {
		t.Errorf("%d bytes, %d uploads in parts", len(o), st.uploads)
	}
}

// A file that a process before this one wrote is found, and left alone as long as that writes.
func TestS3Leftover(t *testing.T) {
	buffer := t.TempDir()
	st, s := startS3(t, buffer, "s3a://bucket/x")
	f := writeFile(t, s, "/x/1/a.tmp", "hello")
	other := openTestS3(t, s.client.EndpointURL().String(), buffer, "s3a://bucket/x")
	if err := other.Recover("/x/1/a.tmp"); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	f.Abort() // as its process's end would
	list, err := other.List("/x/1")
	if err != nil || len(list) != 1 || list[0].Name != "a.tmp" {
		t.Fatal(list, err)
	}
	if err := other.Recover("/x/1/a.tmp"); err != nil {
		t.Fatal(err)
	}
	if err := rename(t, other, "/x/1/a.tmp", "/x/1/a"); err != nil {
		t.Fatal(err)
	}
	if o, _ := st.object("x/1/a"); o != "hello" {
		t.Errorf("%q", o)
	}
}

// A store that refuses is tried again, and says so to who would write more. When it does so no longer, all goes on.
func TestS3Refused(t *testing.T) {
	for name, tt := range map[string]struct {
		address, setting, says string
		refuse                 int
		heal                   func(*store)
	}{
		"permission": {"s3a://bucket/x", "", "s3:PutObject", http.StatusForbidden, func(st *store) { st.refuse = 0 }},
		"key":        {"s3a://bucket/x", "access.key=you", "correct fs.s3a", 0, func(st *store) { st.user = "you" }},
		"bucket":     {"s3a://other/x", "", "create the bucket", 0, func(st *store) { st.bucket = "other" }},
	} {
		t.Run(name, func(t *testing.T) {
			st, s := startS3(t, t.TempDir(), tt.address, tt.setting)
			st.refuse = tt.refuse
			if err := writeFile(t, s, "/x/a.tmp", "hello").Close(); err != nil {
				t.Fatal(err)
			}
			var err error
			for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
				if err = s.Rename("/x/a.tmp", "/x/a"); err == nil || !errors.Is(err, ErrBusy) {
					t.Fatal(err)
				}
				if strings.Contains(err.Error(), tt.says) {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %v", err)
			}
			if _, err := s.Create("/x/b.tmp"); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("another file: %v", err)
			}
			st.mu.Lock()
			tt.heal(st)
			st.mu.Unlock()
			if err := rename(t, s, "/x/a.tmp", "/x/a"); err != nil {
				t.Fatal(err)
			}
			if o, _ := st.object("x/a"); o != "hello" {
				t.Errorf("%q", o)
			}
			if err := writeFile(t, s, "/x/b.tmp", "").Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestS3Settings(t *testing.T) {
	for v, want := range map[string]int64{"64M": 64 << 20, " 5g ": 5 << 30, "7": 7, "1T": 1 << 40} {
		if n, err := parseSize(v); err != nil || n != want {
			t.Errorf("%q: %d, %v", v, n, err)
		}
	}
	for _, bad := range []string{"", "M", "-1", "9E9", "9999E", "64MB"} {
		if n, err := parseSize(bad); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
	for _, tt := range []struct{ key, value, want string }{
		{"access.key", "a", "together"}, {"endpoint", "ftp://x", "http"}, {"threads.max", "0", "between"}, {"connection.ssl.enabled", "yes", "true nor false"}, {"multipart.size", "6G", "between"},
	} {
		if err := CheckS3(map[string]string{tt.key: tt.value}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s = %s: %v", tt.key, tt.value, err)
		}
	}
	if u := UnknownS3(map[string]string{"endpoint": "x", "fast.upload": "true"}); len(u) != 1 || u[0] != "fast.upload" {
		t.Error(u)
	}
}
