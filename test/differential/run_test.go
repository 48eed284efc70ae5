package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// peer is a broker under test.
type peer struct {
	addr string
	node int32
}

// patience bounds each wait: for an answer, for an until, for a topic to be
// there. Apache Kafka's brokers learn of a change a moment after the client.
const patience = 2 * time.Minute

// runner runs one script against one peer.
type runner struct {
	p     peer
	conns map[string]*conn
	vars  map[string]string
	view  *view
	fmt   *kmsg.RequestFormatter

	patience time.Duration
}

type conn struct {
	net.Conn
	corr int32
}

var errClosed = errors.New("connection closed")

func newRunner(t testing.TB, p peer, s *script, prefix string) *runner {
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixMilli() - behind
	r := &runner{p: p, patience: patience, conns: map[string]*conn{}, fmt: kmsg.NewRequestFormatter(kmsg.FormatterClientID("differential")),
		vars: map[string]string{"T": prefix, "now": strconv.FormatInt(now, 10), "node": strconv.Itoa(int(p.node))},
		view: &view{prefix: prefix, now: now, node: p.node, port: int32(n), saved: map[string]string{}, savedAs: map[string]bool{}}}
	for _, st := range s.steps {
		r.view.script += st.body
	}
	t.Cleanup(func() {
		for _, c := range r.conns {
			c.Close()
		}
	})
	return r
}

func (r *runner) conn(name string) (*conn, error) {
	if c := r.conns[name]; c != nil {
		return c, nil
	}
	nc, err := net.DialTimeout("tcp", r.p.addr, r.patience)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc}
	r.conns[name] = c
	return c, nil
}

// send writes a request; the answer is to be read with receive.
func (r *runner) send(c *conn, req kmsg.Request) error {
	c.corr++
	c.SetDeadline(time.Now().Add(r.patience))
	_, err := c.Write(r.fmt.AppendRequest(nil, req, c.corr))
	return closedError(err)
}

func closedError(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return errClosed
}

// receive reads the next answer: its correlation id and the rest.
func receive(c *conn) (int32, []byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return 0, nil, closedError(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return 0, nil, closedError(err)
	}
	if len(b) < 4 {
		return 0, nil, fmt.Errorf("an answer of %d bytes", len(b))
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:], nil
}

func (r *runner) ask(c *conn, req kmsg.Request) (kmsg.Response, error) {
	if err := r.send(c, req); err != nil {
		return nil, err
	}
	corr, b, err := receive(c)
	if err != nil {
		return nil, err
	}
	if corr != c.corr {
		return nil, fmt.Errorf("an answer to request %d, not %d", corr, c.corr)
	}
	resp := req.ResponseKind()
	if req.Key() == 18 && req.GetVersion() > 4 { // KIP-511
		resp.SetVersion(0)
	} else if resp.IsFlexible() && req.Key() != 18 {
		if len(b) == 0 || b[0] != 0 {
			return nil, errors.New("the answer's header has tags")
		}
		b = b[1:]
	}
	if err := resp.ReadFrom(b); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return resp, nil
}

var variable = regexp.MustCompile(`\$(?:T|[a-z]\w*)`)

func (r *runner) expand(s string, version int16) (string, error) {
	var missing error
	out := variable.ReplaceAllStringFunc(s, func(m string) string {
		if m == "$v" {
			return strconv.Itoa(int(version))
		}
		v, ok := r.vars[m[1:]]
		if !ok {
			missing = fmt.Errorf("%s is not set", m)
		}
		return v
	})
	return out, missing
}

// request asks one version of a step and returns the rendered answer.
func (r *runner) request(st *step, version int16) (string, error) {
	body, err := r.expand(st.body, version)
	if err != nil {
		return "", err
	}
	req := kmsg.RequestForKey(st.api)
	if req == nil {
		return "", fmt.Errorf("kmsg does not know API %d", st.api)
	}
	j, err := parseJSON(body)
	if err != nil {
		return "", err
	}
	if err := fill(reflect.ValueOf(req).Elem(), j); err != nil {
		return "", err
	}
	req.SetVersion(version)
	name := strings.Join(st.opts["on"], "")
	c, err := r.conn(name)
	if err != nil {
		return "", err
	}
	r.view.body, r.view.api = body, st.api
	closed := func(err error) (string, error) {
		if errors.Is(err, errClosed) {
			c.Close()
			delete(r.conns, name)
			return formatFlat("connection closed"), nil
		}
		return "", err
	}
	if _, ok := st.opts["noanswer"]; ok {
		if err := r.send(c, req); err != nil {
			return closed(err)
		}
		if _, err := r.ask(c, &kmsg.ApiVersionsRequest{}); err != nil {
			return closed(err)
		}
		return formatFlat("no answer"), nil
	}
	for end := time.Now().Add(r.patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := r.ask(c, req)
		if err != nil {
			return closed(err)
		}
		rendered := r.view.render(reflect.ValueOf(resp), "")
		done := true
		for _, u := range st.opts["until"] {
			path, want, _ := strings.Cut(u, ":")
			want, err := r.expand(want, version)
			if err != nil {
				return "", err
			}
			got, err := lookup(reflect.ValueOf(resp), path)
			done = done && err == nil && r.plain(got, path) == want
		}
		if !done && time.Now().Before(end) {
			continue
		}
		if !done {
			return "", fmt.Errorf("the answer never became %v, it is %s", st.opts["until"], format(rendered, ""))
		}
		for _, s := range st.opts["save"] {
			v, path, _ := strings.Cut(s, ":")
			got, err := lookup(reflect.ValueOf(resp), path)
			if err != nil {
				return "", fmt.Errorf("save %s: %w in %s", v, err, format(rendered, ""))
			}
			r.save(v, path, got)
		}
		if len(st.opts["save"]) > 0 {
			rendered = r.view.render(reflect.ValueOf(resp), "")
		}
		return format(rendered, ""), nil
	}
}

// lookup finds a value by field names and indexes, as in Topics.0.TopicID.
func lookup(v reflect.Value, path string) (reflect.Value, error) {
	for p := range strings.SplitSeq(path, ".") {
		for v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		if i, err := strconv.Atoi(p); err == nil && v.Kind() == reflect.Slice {
			if i >= v.Len() {
				return v, fmt.Errorf("%s: there are %d", path, v.Len())
			}
			v = v.Index(i)
		} else if v.Kind() == reflect.Struct && v.FieldByName(p).IsValid() {
			v = v.FieldByName(p)
		} else {
			return v, fmt.Errorf("no %s at %s", path, p)
		}
	}
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	return v, nil
}

func (r *runner) plain(v reflect.Value, path string) string {
	switch v.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprint(r.view.number(v.Int(), path[strings.LastIndexByte(path, '.')+1:]))
	}
	return fmt.Sprint(v.Interface())
}

func (r *runner) save(name, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Array:
		s := fmt.Sprintf("%x", v.Interface())
		r.vars[name] = s
		r.view.saved[s] = "$" + name
	case reflect.String:
		r.vars[name] = v.String()
		r.view.saved[v.String()] = "$" + name
	default:
		r.vars[name] = fmt.Sprint(v.Interface())
		r.view.savedAs[path[strings.LastIndexByte(path, '.')+1:]+" "+r.vars[name]] = true
	}
}

// prepare runs a step that is not a request.
func (r *runner) prepare(words []string) error {
	c, err := r.conn("prepare")
	if err != nil {
		return err
	}
	args := make([]string, len(words))
	for i, w := range words {
		if args[i], err = r.expand(w, 0); err != nil {
			return err
		}
	}
	switch {
	case args[0] == "create" && len(args) >= 3:
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.TimeoutMillis = 5, 20_000
		rt := kmsg.NewCreateTopicsRequestTopic()
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = args[1], int32(n), 1
		for _, s := range args[3:] {
			k, v, _ := strings.Cut(s, "=")
			rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
		}
		req.Topics = append(req.Topics, rt)
		resp, err := r.ask(c, req)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode); err != nil {
			return err
		}
		return r.awaitTopic(c, args[1], n)
	case args[0] == "delete" && len(args) == 2:
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis, req.TopicNames = 5, 20_000, []string{args[1]}
		resp, err := r.ask(c, req)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode); err != nil {
			return err
		}
		return r.awaitGone(c, args[1])
	case args[0] == "produce" && len(args) >= 4:
		b := batch{Time: r.vars["now"]}
		for i := range args[3:] {
			b.Values = append(b.Values, &args[3+i])
		}
		records, err := b.append(nil)
		if err != nil {
			return err
		}
		part, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks, req.TimeoutMillis = 9, -1, 20_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = args[1]
		rt.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: int32(part), Records: records}}
		req.Topics = append(req.Topics, rt)
		resp, err := r.ask(c, req)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
	case args[0] == "await" && len(args) == 4 && args[1] == "topic":
		n, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return r.awaitTopic(c, args[2], n)
	case args[0] == "await" && len(args) == 3 && args[1] == "gone":
		return r.awaitGone(c, args[2])
	case args[0] == "await" && len(args) == 3 && args[1] == "group":
		return r.awaitGroup(c, args[2])
	}
	return fmt.Errorf("%q is no step", strings.Join(words, " "))
}

func (r *runner) poll(what string, f func() (bool, error)) error {
	for end := time.Now().Add(r.patience); ; time.Sleep(20 * time.Millisecond) {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %s", r.patience, what)
		}
	}
}

func (r *runner) metadata(c *conn, topic string) (*kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 9
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	resp, err := r.ask(c, req)
	if err != nil {
		return nil, err
	}
	return &resp.(*kmsg.MetadataResponse).Topics[0], nil
}

func (r *runner) awaitTopic(c *conn, topic string, parts int) error {
	return r.poll("topic "+topic, func() (bool, error) {
		mt, err := r.metadata(c, topic)
		if err != nil || mt.ErrorCode != 0 || len(mt.Partitions) != parts {
			return false, err
		}
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version = 6
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = topic
		for i := range parts {
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Partition, rp.Timestamp = int32(i), -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
		resp, err := r.ask(c, req)
		if err != nil {
			return false, err
		}
		for _, p := range resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
			if p.ErrorCode != 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

func (r *runner) awaitGone(c *conn, topic string) error {
	return r.poll("the end of topic "+topic, func() (bool, error) {
		mt, err := r.metadata(c, topic)
		return err == nil && mt.ErrorCode == kerr.UnknownTopicOrPartition.Code, err
	})
}

func (r *runner) awaitGroup(c *conn, group string) error {
	return r.poll("the coordinator of group "+group, func() (bool, error) {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version, req.CoordinatorKey = 3, group
		resp, err := r.ask(c, req)
		if err != nil || resp.(*kmsg.FindCoordinatorResponse).ErrorCode != 0 {
			return false, err
		}
		of := kmsg.NewPtrOffsetFetchRequest()
		of.Version, of.Group = 7, group
		resp, err = r.ask(c, of)
		return err == nil && resp.(*kmsg.OffsetFetchResponse).ErrorCode == 0, err
	})
}
