package dfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a bucket of an object store. An object appears whole or not at all, and cannot be appended to. So a file is written
// in a buffer directory on the local disk, and uploaded to its last name by Rename. What a process which is gone left in the
// directory is found by List and closed by Recover and Rename, as on other file systems.
type S3 struct {
	log      *slog.Logger
	client   *minio.Client
	bucket   string
	user     string
	dir      string // of its files in the buffer directory
	put      minio.PutObjectOptions
	minRetry time.Duration

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	slots  chan struct{} // one for each upload under way

	mu      sync.Mutex
	uploads map[string]*upload // by the name in the buffer directory
	failing error              // of the last attempt, if that failed
}

// upload is one file on its way.
type upload struct {
	done bool
	err  error // fs.ErrExist, fs.ErrNotExist, or nil
}

// s3Keys are the settings below fs.s3a. that have an effect.
var s3Keys = []string{"access.key", "attempts.maximum", "buffer.dir", "connection.ssl.enabled", "create.storage.class", "endpoint", "endpoint.region",
	"multipart.size", "path.style.access", "secret.key", "session.token", "threads.max"}

// UnknownS3 are the names of settings that have no effect, of those that are given without fs.s3a. before them.
func UnknownS3(settings map[string]string) []string {
	var unknown []string
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		if !slices.Contains(s3Keys, k) {
			unknown = append(unknown, k)
		}
	}
	return unknown
}

// CheckS3 finds fault with settings.
func CheckS3(settings map[string]string) error {
	_, err := readS3(settings)
	return err
}

type s3Settings struct {
	endpoint, region, access, secret, token, storage, dir string
	secure, pathStyle                                     bool
	partSize                                              int64
	threads, attempts                                     int
}

func readS3(m map[string]string) (s3Settings, error) {
	s := s3Settings{endpoint: m["endpoint"], region: m["endpoint.region"], access: m["access.key"], secret: m["secret.key"], token: m["session.token"],
		storage: strings.ToUpper(m["create.storage.class"]), dir: m["buffer.dir"], secure: true, partSize: 64 << 20, threads: 2, attempts: 3}
	if s.endpoint == "" {
		s.endpoint = "s3.amazonaws.com"
	}
	if (s.access == "") != (s.secret == "") {
		return s, errors.New("fs.s3a.access.key and fs.s3a.secret.key must be set together")
	}
	for key, to := range map[string]*bool{"connection.ssl.enabled": &s.secure, "path.style.access": &s.pathStyle} {
		if v := strings.ToLower(strings.TrimSpace(m[key])); v != "" {
			if v != "true" && v != "false" {
				return s, fmt.Errorf("fs.s3a.%s: %q is neither true nor false", key, v)
			}
			*to = v == "true"
		}
	}
	for key, to := range map[string]*int{"threads.max": &s.threads, "attempts.maximum": &s.attempts} {
		if v := m[key]; v != "" {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil || n < 1 || n > 1000 {
				return s, fmt.Errorf("fs.s3a.%s: %q is no number between 1 and 1000", key, v)
			}
			*to = n
		}
	}
	if scheme, rest, ok := strings.Cut(s.endpoint, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return s, fmt.Errorf("fs.s3a.endpoint: %q begins neither with http:// nor with https://", s.endpoint)
		}
		s.endpoint, s.secure = strings.TrimSuffix(rest, "/"), scheme == "https"
	}
	if v := m["multipart.size"]; v != "" {
		n, err := parseSize(v)
		if err != nil {
			return s, fmt.Errorf("fs.s3a.multipart.size: %w", err)
		}
		if n < 5<<20 || n > 5<<30 { // limits of S3
			return s, fmt.Errorf("fs.s3a.multipart.size: %s is not between 5M and 5G", v)
		}
		s.partSize = n
	}
	return s, nil
}

// parseSize reads Hadoop's sizes, such as 64M.
func parseSize(v string) (int64, error) {
	digits := strings.TrimSpace(v)
	shift := 0
	if n := len(digits); n > 0 {
		if i := strings.IndexByte("kmgtpe", digits[n-1]|0x20); i >= 0 {
			digits, shift = strings.TrimSpace(digits[:n-1]), 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is no size such as 64M", v)
	}
	return n << shift, nil
}

func openS3(bucket string, o Options, conf map[string]string) (*S3, error) {
	if bucket == "" {
		return nil, errors.New("there is no bucket in the address; write s3a://BUCKET/PATH")
	}
	settings := map[string]string{}
	for _, k := range s3Keys {
		settings[k] = conf["fs.s3a."+k]
	}
	maps.Copy(settings, o.S3)
	c, err := readS3(settings)
	if err != nil {
		return nil, err
	}
	if c.dir == "" {
		c.dir = o.BufferDir
	}
	if c.dir == "" {
		return nil, errors.New("there is no home directory in which files could wait for their upload: set fs.s3a.buffer.dir")
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, fmt.Errorf("find fs.s3a.buffer.dir: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = o.CallTimeout
	creds := credentials.NewStaticV4(c.access, c.secret, c.token)
	if c.access == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
			&credentials.IAM{Client: &http.Client{Transport: transport}}})
	}
	lookup := minio.BucketLookupAuto
	if c.pathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(c.endpoint, &minio.Options{Creds: creds, Secure: c.secure, Transport: transport, Region: c.region, BucketLookup: lookup, MaxRetries: c.attempts})
	if err != nil {
		return nil, fmt.Errorf("fs.s3a.endpoint %q: %w", c.endpoint, err)
	}
	who, err := userName(o)
	if err != nil {
		return nil, err
	}
	s := &S3{log: o.Log, client: client, bucket: bucket, user: who, dir: filepath.Join(c.dir, bucket), minRetry: time.Second, slots: make(chan struct{}, c.threads), uploads: map[string]*upload{},
		put: minio.PutObjectOptions{ContentType: "application/octet-stream", StorageClass: c.storage, PartSize: uint64(c.partSize),
			// Signatures of pieces of a body are more than many stores understand.
			SendContentMd5: true, DisableContentSha256: true}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *S3) buffered(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// Create implements FS. While uploads fail no new file is begun: the local disk must not fill with what cannot leave it.
func (s *S3) Create(name string) (File, error) {
	s.mu.Lock()
	failing := s.failing
	s.mu.Unlock()
	if failing != nil {
		return nil, fmt.Errorf("no new file is begun while others wait: %w", failing)
	}
	name = s.buffered(name)
	f, err := createLocal(name, 0o700, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // an upload has removed the directory in between
		f, err = createLocal(name, 0o700, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("in fs.s3a.buffer.dir: %w", err)
	}
	f.sync = true
	return f, nil
}

// Rename implements FS: it uploads a file, in the background. ErrBusy says that this is under way.
func (s *S3) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uploads[from]; u != nil && u.done {
		delete(s.uploads, from)
		return u.err
	} else if u == nil {
		u = &upload{}
		s.uploads[from] = u
		s.wg.Go(func() { s.upload(u, from, to) })
	}
	if s.failing != nil {
		return fmt.Errorf("%w: %w", ErrBusy, s.failing)
	}
	return fmt.Errorf("upload %s: %w", to, ErrBusy)
}

// maxUploadRetry is the longest pause between two attempts.
const maxUploadRetry = 30 * time.Second

func (s *S3) upload(u *upload, from, to string) {
	for pause := s.minRetry; ; pause = min(2*pause, maxUploadRetry) {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		err := s.attempt(from, to)
		<-s.slots
		if s.ctx.Err() != nil {
			return
		}
		final := err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist)
		s.mu.Lock()
		if final {
			u.done, u.err = true, err
			if s.failing != nil {
				s.log.Info("uploads work again", "bucket", s.bucket)
			}
			s.failing = nil
		} else {
			if s.failing == nil {
				s.log.Error("an upload has failed; it is tried until it works, and no new file is begun", "file", "s3a://"+s.bucket+to, "buffered", s.buffered(from), "err", err)
			}
			s.failing = err
		}
		s.mu.Unlock()
		if final {
			return
		}
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *S3) attempt(from, to string) error {
	buffered, key := s.buffered(from), strings.TrimPrefix(to, "/")
	// Nothing is overwritten, although two writers that have the same name at the same moment are not kept apart.
	_, err := s.client.StatObject(s.ctx, s.bucket, key, minio.StatObjectOptions{})
	if err == nil {
		return &fs.PathError{Op: "upload", Path: to, Err: fs.ErrExist}
	}
	if r := minio.ToErrorResponse(err); r.Code != minio.NoSuchKey {
		return s.explain(err, to)
	}
	if _, err := s.client.FPutObject(s.ctx, s.bucket, key, buffered, s.put); errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err != nil {
		return s.explain(err, to)
	}
	if err := os.Remove(buffered); err != nil {
		s.log.Warn("a file that has been uploaded could not be removed; the next start uploads it again", "file", buffered, "err", err)
	}
	for dir := filepath.Dir(buffered); len(dir) > len(s.dir); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil { // there is something in it
			break
		}
	}
	return nil
}

// explain says in words what an operator has to do.
func (s *S3) explain(err error, to string) error {
	what := fmt.Errorf("upload s3a://%s%s: %w", s.bucket, to, err)
	r := minio.ToErrorResponse(err)
	switch {
	case r.Code == minio.NoSuchBucket:
		return fmt.Errorf("%w: create the bucket, or correct hdfs.path", what)
	case r.Code == "InvalidAccessKeyId", r.Code == "SignatureDoesNotMatch", r.Code == "InvalidToken", r.Code == "ExpiredToken":
		return fmt.Errorf("%w: correct fs.s3a.access.key and fs.s3a.secret.key", what)
	case r.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: allow s3:PutObject, s3:GetObject, s3:ListBucket and s3:AbortMultipartUpload, or correct fs.s3a.access.key", what)
	}
	return what
}

// Remove implements FS, for the files that have not been uploaded yet.
func (s *S3) Remove(name string) error { return os.Remove(s.buffered(name)) }

// List implements FS, for the files that have not been uploaded yet.
func (s *S3) List(dir string) ([]Entry, error) { return Local{}.List(s.buffered(dir)) }

// MkdirAll implements FS: there are no directories.
func (s *S3) MkdirAll(string) error { return nil }

// Recover implements FS.
func (s *S3) Recover(name string) error {
	s.mu.Lock()
	_, under := s.uploads[name]
	s.mu.Unlock()
	if under {
		return fmt.Errorf("upload %s: %w", name, ErrBusy)
	}
	return Local{}.Recover(s.buffered(name))
}

// Home implements FS. It is where Hadoop has it.
func (s *S3) Home() string { return "/user/" + s.user }

// Close implements FS. Uploads end; the next process begins them again.
func (s *S3) Close() error {
	s.cancel()
	s.wg.Wait()
	return nil
}
