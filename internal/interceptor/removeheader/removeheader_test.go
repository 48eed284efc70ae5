package removeheader

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func build(t *testing.T, props ...string) (component.Interceptor, error) {
	t.Helper()
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "remove_header", props...)
	return cfg.(component.InterceptorConfig).NewInterceptor(componenttest.QuietEnv())
}

func TestRemove(t *testing.T) {
	for _, c := range []struct {
		props []string
		want  string
	}{
		{nil, "a ab b c.d"},
		{[]string{"withName=a"}, "ab b c.d"},
		{[]string{"withName=A"}, "a ab b c.d"},
		{[]string{"fromList=a , b"}, "ab c.d"},
		{[]string{"fromList=a;ab;x", "fromListSeparator=;"}, "b c.d"},
		{[]string{"matching=a"}, "ab b c.d"}, // the whole name
		{[]string{"matching=a.*"}, "b c.d"},
		{[]string{`matching=.*\..*`}, "a ab b"},
		{[]string{"withName=b", "fromList=c.d,x", "matching=a"}, "ab"},
		{[]string{"matching=.*"}, ""},
	} {
		ic, err := build(t, c.props...)
		if err != nil {
			t.Fatal(err)
		}
		b := event.NewPool().NewBatch()
		b.Append([]byte("no headers"))
		for range 3 {
			b.AppendEvent([]byte("x"), []event.KV{{Key: "a", Value: []byte("1")}, {Key: "ab"}, {Key: "b", Value: []byte("3")}, {Key: "c.d", Value: []byte("4")}})
		}
		b.SetHeaderAll("z", []byte("shared"), false)
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(c.want)
		if len(c.props) != 1 || c.props[0] != "matching=.*" {
			want = append(want, "z")
		}
		for i, e := range b.Events()[1:] {
			var keys []string
			for _, h := range e.Headers {
				keys = append(keys, h.Key)
			}
			if strings.Join(keys, " ") != strings.Join(want, " ") {
				t.Errorf("%q: event %d has %v, want %v", c.props, i, keys, want)
			}
		}
		b.Release()
	}
}

// Events that share a list each lose the header.
func TestShared(t *testing.T) {
	ic, err := build(t, "withName=a")
	if err != nil {
		t.Fatal(err)
	}
	b := event.NewPool().NewBatch()
	defer b.Release()
	for range 5 {
		b.Append([]byte("x"))
	}
	b.SetHeaderAll("a", []byte("1"), false)
	b.SetHeaderAll("b", []byte("2"), false)
	if err := ic.Intercept(b); err != nil {
		t.Fatal(err)
	}
	for i, e := range b.Events() {
		if len(e.Headers) != 1 || e.Headers[0].Key != "b" {
			t.Errorf("event %d: %v", i, e.Headers)
		}
	}
}

func TestErrors(t *testing.T) {
	for key, props := range map[string][]string{
		"matching":          {"matching=*"},
		"fromListSeparator": {"fromList=a", "fromListSeparator=("},
	} {
		_, err := build(t, props...)
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != key {
			t.Errorf("%q: %v", props, err)
		}
	}
	if _, ok := component.Default().Lookup(component.KindInterceptor, "org.apache.flume.interceptor.RemoveHeaderInterceptor$Builder"); !ok {
		t.Error("Flume's class name is not known")
	}
}

func TestNoAllocation(t *testing.T) {
	ic, err := build(t, "fromList=a,c", "matching=d.*")
	if err != nil {
		t.Fatal(err)
	}
	p := event.NewPool()
	hs := []event.KV{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}, {Key: "dd", Value: []byte("3")}}
	round := func() {
		b := p.NewBatch()
		for range 1000 {
			b.AppendEvent([]byte("x"), hs)
		}
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	componenttest.NoMoreAllocs(t, 20, round) // for 1000 events; a GC empties pools
}
