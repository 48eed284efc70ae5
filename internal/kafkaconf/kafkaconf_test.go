package kafkaconf

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/sluice-data/sluice/component"
)

type producerConfig struct{ Producer }

func (c *producerConfig) Fields() []component.Field { return c.Producer.Fields("kafka.producer.") }

type consumerConfig struct{ Consumer }

func (c *consumerConfig) Fields() []component.Field { return c.Consumer.Fields("kafka.consumer.") }

func props(kv []string) []component.Property {
	var ps []component.Property
	for _, s := range kv {
		k, v, _ := strings.Cut(s, "=")
		ps = append(ps, component.Property{Key: k, Value: v})
	}
	return ps
}

func env(d map[string]string) Env {
	return Env{
		Component: component.Env{Agent: "a", Name: "k", Log: slog.New(slog.DiscardHandler), Properties: d, Metrics: component.NewMetrics(), Health: func(error) {}},
		Servers:   []string{"127.0.0.1:1"}, ServersKey: "kafka.bootstrap.servers",
	}
}

// build decodes and builds; the result is the findings and the error, in one text.
func build(t *testing.T, side string, d map[string]string, kv ...string) ([]kgo.Opt, string) {
	t.Helper()
	var findings []component.Finding
	var opts []kgo.Opt
	var err error
	if side == "producer" {
		c := new(producerConfig)
		findings = component.Decode(component.Default(), c, props(kv))
		opts, err = c.Options(env(d))
	} else {
		c := new(consumerConfig)
		findings = component.Decode(component.Default(), c, props(kv))
		opts, err = c.Options(env(d))
	}
	var text []string
	for _, f := range findings {
		text = append(text, f.Key+": "+f.Message)
	}
	if err != nil {
		var ke *component.KeyError
		if !errors.As(err, &ke) {
			t.Errorf("%v is not a KeyError", err)
		} else if !strings.HasPrefix(ke.Key, "kafka.") {
			t.Errorf("key %s lacks its prefix", ke.Key)
		}
		text = append(text, err.Error())
	} else if verr := kgo.ValidateOpts(opts...); verr != nil && len(findings) == 0 {
		t.Errorf("%v: the client refuses what was accepted: %v", kv, verr)
	}
	return opts, strings.Join(text, "; ")
}

// What a client makes of options is read back from it.
func TestProducerOptions(t *testing.T) {
	tests := []struct {
		kv   []string
		opt  any
		want string
	}{
		// Flume's defaults, which are not franz-go's.
		{nil, kgo.RequiredAcks, "{1}"},
		{nil, kgo.DisableIdempotentWrite, "true"},
		{nil, kgo.MaxProduceRequestsInflightPerBroker, "1"},
		{nil, kgo.ClientID, "sluice-a-k"},
		{nil, kgo.RecordDeliveryTimeout, "0s"},
		{nil, kgo.AllowAutoTopicCreation, "true"},
		{nil, kgo.ProducerBatchCompression, "[{0 0}]"},
		{nil, kgo.MaxBufferedBytes, "33554432"},
		{[]string{"acks=all"}, kgo.RequiredAcks, "{-1}"},
		{[]string{"acks=-1"}, kgo.RequiredAcks, "{-1}"},
		{[]string{"acks=0"}, kgo.RequiredAcks, "{0}"},
		{[]string{"acks=all", "enable.idempotence=true"}, kgo.DisableIdempotentWrite, "false"},
		{[]string{"max.in.flight.requests.per.connection=5"}, kgo.MaxProduceRequestsInflightPerBroker, "5"},
		{[]string{"client.id=me"}, kgo.ClientID, "me"},
		{[]string{"retries=3"}, kgo.RecordRetries, "3"},
		{[]string{"request.timeout.ms=1000"}, kgo.RequestTimeoutOverhead, "1s"},
		{[]string{"request.timeout.ms=1000"}, kgo.ProduceRequestTimeout, "1s"},
		{[]string{"max.request.size=5000000"}, nil, ""},
		{[]string{"max.request.size=500000000"}, kgo.BrokerMaxWriteBytes, "501048576"},
		{[]string{"buffer.memory=1000"}, kgo.MaxBufferedBytes, "1000"},
		{[]string{"compression.type=gzip", "compression.gzip.level=9"}, kgo.ProducerBatchCompression, "[{1 9}]"},
		{[]string{"compression.type=snappy"}, kgo.ProducerBatchCompression, "[{2 0}]"},
		{[]string{"compression.type=lz4"}, kgo.ProducerBatchCompression, "[{3 0}]"},
		{[]string{"compression.type=lz4", "compression.lz4.level=1"}, kgo.ProducerBatchCompression, "[{3 512}]"},
		{[]string{"compression.type=zstd", "compression.zstd.level=22"}, kgo.ProducerBatchCompression, "[{4 4}]"},
		{[]string{"metadata.max.age.ms=60000"}, kgo.MetadataMaxAge, "1m0s"},
		{[]string{"connections.max.idle.ms=5000"}, kgo.ConnIdleTimeout, "5s"},
		{[]string{"socket.connection.setup.timeout.ms=700"}, kgo.DialTimeout, "700ms"},
		{[]string{"acks=all", "transactional.id=t", "transaction.timeout.ms=9000"}, kgo.TransactionTimeout, "9s"},
	}
	for _, tt := range tests {
		var kv []string
		for _, s := range tt.kv {
			kv = append(kv, "kafka.producer."+s)
		}
		opts, text := build(t, "producer", nil, kv...)
		if text != "" {
			t.Errorf("%v: %s", tt.kv, text)
			continue
		}
		checkOpt(t, tt.kv, opts, tt.opt, tt.want)
	}
}

func TestConsumerOptions(t *testing.T) {
	tests := []struct {
		kv   []string
		opt  any
		want string
	}{
		{nil, kgo.ConsumerGroup, "flume"},
		{nil, kgo.SessionTimeout, "45s"},
		{nil, kgo.FetchMaxBytes, "52428800"},
		{nil, kgo.DisableAutoCommit, "true"},
		{[]string{"group.id=g"}, kgo.ConsumerGroup, "g"},
		{[]string{"group.instance.id=i"}, kgo.InstanceID, "i"},
		{[]string{"session.timeout.ms=9000", "heartbeat.interval.ms=2000"}, kgo.HeartbeatInterval, "2s"},
		{[]string{"max.poll.interval.ms=60000"}, kgo.RebalanceTimeout, "1m0s"},
		{[]string{"fetch.min.bytes=5"}, kgo.FetchMinBytes, "5"},
		{[]string{"fetch.max.wait.ms=50"}, kgo.FetchMaxWait, "50ms"},
		{[]string{"max.partition.fetch.bytes=77"}, kgo.FetchMaxPartitionBytes, "77"},
		{[]string{"client.rack=r1"}, kgo.Rack, "r1"},
		{[]string{"check.crcs=false"}, kgo.DisableFetchCRCValidation, "true"},
		{[]string{"allow.auto.create.topics=false"}, kgo.AllowAutoTopicCreation, "false"},
		{[]string{"key.deserializer=org.apache.kafka.common.serialization.StringDeserializer", "value.deserializer=org.apache.kafka.common.serialization.ByteArrayDeserializer"}, nil, ""},
		{[]string{"isolation.level=read_committed"}, kgo.FetchIsolationLevel, "1"},
	}
	for _, tt := range tests {
		var kv []string
		for _, s := range tt.kv {
			kv = append(kv, "kafka.consumer."+s)
		}
		opts, text := build(t, "consumer", nil, kv...)
		if text != "" {
			t.Errorf("%v: %s", tt.kv, text)
			continue
		}
		checkOpt(t, tt.kv, opts, tt.opt, tt.want)
	}
	for reset, want := range map[string]kgo.Offset{"latest": kgo.NewOffset().AtEnd(), "earliest": kgo.NewOffset().AtStart(), "none": kgo.NoResetOffset()} {
		opts, _ := build(t, "consumer", nil, "kafka.consumer.auto.offset.reset="+reset)
		checkOpt(t, nil, opts, kgo.ConsumeResetOffset, fmt.Sprint(want))
	}
	opts, _ := build(t, "consumer", nil, "kafka.consumer.partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor, range")
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if got := fmt.Sprint(len(cl.OptValue(kgo.Balancers).([]kgo.GroupBalancer))); got != "2" {
		t.Errorf("balancers: %s", got)
	}
}

func checkOpt(t *testing.T, kv []string, opts []kgo.Opt, opt any, want string) {
	t.Helper()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Errorf("%v: %v", kv, err)
		return
	}
	defer cl.Close()
	if opt == nil {
		return
	}
	v := cl.OptValue(opt)
	if s, ok := v.(*string); ok && s != nil {
		v = *s
	}
	if got := fmt.Sprint(v); got != want {
		t.Errorf("%v: %s, want %s", kv, got, want)
	}
}

func TestFindings(t *testing.T) {
	long := "kafka.producer."
	tests := []struct {
		side string
		kv   []string
		want string
	}{
		{"producer", []string{"kafka.producer.acks=2"}, "0, 1, all or -1"},
		{"producer", []string{"kafka.producer.enable.idempotence=true"}, "enable.idempotence: it needs acks = all"},
		{"producer", []string{"kafka.producer.transactional.id=x"}, "transactional.id: it needs acks = all"},
		{"producer", []string{"kafka.producer.linger.ms=5"}, "no effect: every batch is sent at once"},
		{"producer", []string{"kafka.producer.batch.sice=5"}, "kafka.producer.batch.sice: no effect: not a property"},
		{"producer", []string{"kafka.producer.interceptor.classes=x"}, "not supported: Java classes"},
		{"producer", []string{"kafka.producer.value.serializer=io.confluent.kafka.serializers.KafkaAvroSerializer"}, "cannot be loaded: values are the bytes"},
		{"producer", []string{"kafka.producer.partitioner.class=org.me.Mine"}, "cannot be loaded: known are DefaultPartitioner"},
		{"producer", []string{"kafka.producer.partitioner.class=org.me.DefaultPartitioner"}, "cannot be loaded"},
		{"producer", []string{"kafka.producer.compression.type=brotli"}, "not one of none, gzip"},
		{"producer", []string{"kafka.producer.delivery.timeout.ms=1"}, "out of range"},
		{"producer", []string{"kafka.producer.security.protocol=TLS"}, "not one of PLAINTEXT"},
		{"producer", []string{"kafka.producer.security.protocol=SASL_SSL"}, "sasl.mechanism: it must be set"},
		{"producer", []string{"kafka.producer.sasl.mechanism=GSSAPI"}, "use SCRAM"},
		{"producer", []string{"kafka.producer.sasl.mechanism=OAUTHBEARER"}, "use SCRAM"},
		{"producer", []string{long + "security.protocol=SASL_PLAINTEXT", long + "sasl.mechanism=PLAIN"}, "sasl.jaas.config: it must be set"},
		{"producer", []string{long + "security.protocol=SASL_PLAINTEXT", long + "sasl.mechanism=PLAIN", long + "sasl.jaas.config=a.ScramLoginModule required;"}, "there is no PlainLoginModule"},
		{"producer", []string{long + "security.protocol=SASL_PLAINTEXT", long + "sasl.mechanism=PLAIN", long + "sasl.jaas.config=a.PlainLoginModule required;"}, "there is no username"},
		{"producer", []string{long + "security.protocol=SASL_PLAINTEXT", long + "sasl.mechanism=PLAIN", long + "sasl.jaas.config=a.PlainLoginModule required"}, "semicolon"},
		{"producer", []string{long + "security.protocol=SSL", long + "ssl.enabled.protocols=TLSv1,TLSv1.1"}, "older versions are not secure"},
		{"producer", []string{long + "security.protocol=SSL", long + "ssl.truststore.location=/nowhere/x.jks"}, "no such file"},
		{"producer", []string{long + "security.protocol=SSL", long + "ssl.truststore.certificates=x"}, "no certificate"},
		{"producer", []string{long + "security.protocol=SSL", long + "ssl.keystore.key=x"}, "ssl.keystore.key:"},
		{"consumer", []string{"kafka.consumer.auto.offset.reset=now"}, "not one of latest"},
		{"consumer", []string{"kafka.consumer.enable.auto.commit=true"}, "no effect: offsets are committed after"},
		{"consumer", []string{"kafka.consumer.heartbeat.interval.ms=50000"}, "not below session.timeout.ms"},
		{"consumer", []string{"kafka.consumer.partition.assignment.strategy=org.me.X"}, "org.me.X cannot be loaded"},
		{"consumer", []string{"kafka.consumer.group.protocol=consumer"}, "only the classic"},
		{"consumer", []string{"kafka.consumer.nonsense=1"}, "kafka.consumer.nonsense: no effect"},
	}
	for _, tt := range tests {
		if _, text := build(t, tt.side, nil, tt.kv...); !strings.Contains(text, tt.want) {
			t.Errorf("%v: %q, want %q", tt.kv, text, tt.want)
		}
	}
}

func TestSASL(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "jaas.conf")
	conf := "/* users */ Other { x required; };\nKafkaClient { // ours\n org.apache.kafka.common.security.scram.ScramLoginModule required\n username=\"u\" password='p\\'q';\n};"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	const p = "kafka.producer."
	tests := []struct {
		kv   []string
		d    map[string]string
		want string
	}{
		{[]string{"sasl.mechanism=PLAIN", `sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p w\"";`}, nil, "PLAIN"},
		{[]string{"sasl.mechanism=scram-sha-256", `sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=u password=p tokenauth=true;`}, nil, "SCRAM-SHA-256"},
		{[]string{"sasl.mechanism=SCRAM-SHA-512"}, map[string]string{"java.security.auth.login.config": file}, "SCRAM-SHA-512"},
	}
	for _, tt := range tests {
		kv := []string{p + "security.protocol=SASL_PLAINTEXT"}
		for _, s := range tt.kv {
			kv = append(kv, p+s)
		}
		c := new(producerConfig)
		if fs := component.Decode(component.Default(), c, props(kv)); len(fs) > 0 {
			t.Errorf("%+v", fs)
		}
		conf, mech, err := c.security.build(p, tt.d)
		if err != nil || conf != nil || mech.Name() != tt.want {
			t.Errorf("%v: %v %v %v", tt.kv, conf, mech, err)
		}
	}
	_, text := build(t, "producer", map[string]string{"java.security.auth.login.config": dir}, p+"security.protocol=SASL_PLAINTEXT", p+"sasl.mechanism=PLAIN")
	if !strings.Contains(text, "does not help") {
		t.Error(text)
	}
}

func TestJAAS(t *testing.T) {
	es, err := parseJAAS(`a.B required user="x\\y" p='"' bare=v1.2/z; c.D optional;`)
	if err != nil || len(es) != 2 || es[0].module != "a.B" || es[0].options["user"] != `x\y` || es[0].options["p"] != `"` || es[0].options["bare"] != "v1.2/z" || es[1].flag != "optional" {
		t.Errorf("%+v %v", es, err)
	}
	for _, bad := range []string{"", ";", "a", "a required", "a maybe;", `a required x=;`, `a required x y;`, `a required x="y;`, "/* a", `a required = = =`} {
		if es, err := parseJAAS(bad); err == nil {
			t.Errorf("%q gave %+v", bad, es)
		}
	}
	for _, bad := range []string{"", "A {", "KafkaClient", "KafkaClient { x required;"} {
		if s, err := jaasSection(bad, "KafkaClient"); err == nil {
			t.Errorf("%q gave %q", bad, s)
		}
	}
}

func FuzzJAAS(f *testing.F) {
	f.Add(`a.B required user="x\\y" p='"' bare=v1.2/z; c.D optional;`)
	f.Add("KafkaClient { a required; };")
	f.Fuzz(func(t *testing.T, s string) {
		if es, err := parseJAAS(s); err == nil && len(es) == 0 {
			t.Fatal("neither entries nor an error")
		}
		if sec, err := jaasSection(s, "KafkaClient"); err == nil {
			if _, err := jaasTokens(sec); err != nil {
				t.Fatalf("%q: section %q: %v", s, sec, err)
			}
		}
	})
}

// certificate makes a self-signed certificate and its key, as PEM.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker.example"}, DNSNames: []string{"broker.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kd})
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	other, _ := certificate(t)
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	ca, foreign := write("ca.pem", cert), write("other.pem", other)
	client := write("client.pem", append(append([]byte{}, key...), cert...))
	server, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	shake := func(conf *tls.Config, name string) error {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_ = c.(*tls.Conn).Handshake()
				c.Close()
			}
		}()
		conf = conf.Clone()
		conf.ServerName = name
		c, err := tls.Dial("tcp", l.Addr().String(), conf)
		if err == nil {
			c.Close()
		}
		return err
	}
	trustJKS, clientJKS := write("trust.jks", jksStore(t, cert, nil)), write("client.jks", jksStore(t, cert, key))
	foreignJKS := write("other.jks", jksStore(t, other, nil))
	leaf, err := x509.ParseCertificate(server.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{leaf}, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	trustP12 := write("trust.p12", b)
	if b, err = pkcs12.Modern.Encode(server.PrivateKey, leaf, nil, "changeit"); err != nil {
		t.Fatal(err)
	}
	clientP12 := write("client.p12", b)
	const p = "kafka.producer.ssl."
	tests := []struct {
		name string
		kv   []string
		host string
		ok   bool
	}{
		{"trusted", []string{p + "truststore.location=" + ca}, "broker.example", true},
		{"trusted, in line", []string{p + "truststore.certificates=" + string(cert)}, "broker.example", true},
		{"another name", []string{p + "truststore.location=" + ca}, "127.0.0.1", false},
		{"another name, not checked", []string{p + "truststore.location=" + ca, p + "disableTLSHostnameVerification=true"}, "127.0.0.1", true},
		{"another name, not checked, new way", []string{p + "truststore.location=" + ca, p + "endpoint.identification.algorithm=none"}, "127.0.0.1", true},
		{"the chain is still checked", []string{p + "truststore.location=" + foreign, p + "disableTLSHostnameVerification=true"}, "127.0.0.1", false},
		{"not trusted", []string{p + "truststore.location=" + foreign}, "broker.example", false},
		{"system's authorities", nil, "broker.example", false},
		{"client certificate", []string{p + "truststore.location=" + ca, p + "keystore.location=" + client, p + "keystore.type=PEM"}, "broker.example", true},
		{"JKS", []string{p + "truststore.location=" + trustJKS, p + "truststore.password=changeit", p + "keystore.location=" + clientJKS, p + "keystore.password=changeit"}, "broker.example", true},
		{"PKCS12 without a type", []string{p + "truststore.location=" + trustP12, p + "truststore.password=changeit", p + "keystore.location=" + clientP12, p + "keystore.password=changeit"}, "broker.example", true},
		{"JKS that does not trust", []string{p + "truststore.location=" + foreignJKS, p + "truststore.password=changeit"}, "broker.example", false},
		{"version", []string{p + "truststore.location=" + ca, p + "enabled.protocols=TLSv1.2"}, "broker.example", true},
	}
	for _, tt := range tests {
		c := new(producerConfig)
		kv := append(tt.kv, "kafka.producer.security.protocol=SSL")
		if fs := component.Decode(component.Default(), c, props(kv)); len(fs) > 0 {
			t.Fatalf("%+v", fs)
		}
		conf, _, err := c.security.build("kafka.producer.", nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := shake(conf, tt.host); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if (strings.Contains(tt.name, "client") || strings.Contains(strings.Join(tt.kv, ""), "keystore")) && len(conf.Certificates) != 1 {
			t.Error("no client certificate")
		}
	}
	bad := write("bad.jks", []byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2})
	p12 := write("a.p12", []byte{0x30, 0x82})
	enc := write("enc.pem", append(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), cert...))
	for kv, want := range map[string]string{
		p + "truststore.location=" + bad: "read the certificates to trust",
		p + "keystore.location=" + bad:   "read the key",
		p + "truststore.location=" + p12: "read the certificates to trust",
		p + "keystore.location=" + enc:   "encrypted",
	} {
		if _, text := build(t, "producer", nil, kv, "kafka.producer.security.protocol=SSL"); !strings.Contains(text, want) {
			t.Errorf("%s: %s", kv, text)
		}
	}
}

// jksStore is a JKS store with a certificate to trust, or with a key.
func jksStore(t *testing.T, cert, key []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(cert)
	der := jks.Certificate{Type: "X509", Content: block.Bytes}
	ks := jks.New()
	err := ks.SetTrustedCertificateEntry("ca", jks.TrustedCertificateEntry{CreationTime: time.Now(), Certificate: der})
	if key != nil {
		block, _ = pem.Decode(key)
		err = errors.Join(err, ks.SetPrivateKeyEntry("key", jks.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: block.Bytes, CertificateChain: []jks.Certificate{der}}, []byte("changeit")))
	}
	var b bytes.Buffer
	if err = errors.Join(err, ks.Store(&b, []byte("changeit"))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Stores that hold for the whole process are taken where none is named.
func TestGlobalStores(t *testing.T) {
	cert, key := certificate(t)
	dir := t.TempDir()
	trust, client := filepath.Join(dir, "trust.jks"), filepath.Join(dir, "client.jks")
	if err := errors.Join(os.WriteFile(trust, jksStore(t, cert, nil), 0o600), os.WriteFile(client, jksStore(t, cert, key), 0o600)); err != nil {
		t.Fatal(err)
	}
	of := func(d map[string]string, kv ...string) (*tls.Config, error) {
		c := new(producerConfig)
		if fs := component.Decode(component.Default(), c, props(append(kv, "kafka.producer.security.protocol=SSL"))); len(fs) > 0 {
			t.Fatalf("%+v", fs)
		}
		conf, _, err := c.security.build("kafka.producer.", d)
		return conf, err
	}
	d := map[string]string{"javax.net.ssl.trustStore": trust, "javax.net.ssl.trustStorePassword": "changeit"}
	t.Setenv("FLUME_SSL_KEYSTORE_PATH", client)
	t.Setenv("FLUME_SSL_KEYSTORE_PASSWORD", "changeit")
	conf, err := of(d)
	if err != nil || conf.RootCAs == nil || len(conf.Certificates) != 1 {
		t.Errorf("%v, %+v", err, conf)
	}
	// The component's own come first, as a whole.
	if _, err := of(d, "kafka.producer.ssl.truststore.location="+trust, "kafka.producer.ssl.truststore.password=wrong"); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("the wrong password: %v", err)
	}
}

// A client with these options gets through TLS and SCRAM of a broker.
func TestSecureBroker(t *testing.T) {
	cert, key := certificate(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "u", "p w"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for password, ok := range map[string]bool{"p w": true, "wrong": false} {
		conf := new(producerConfig)
		const p = "kafka.producer."
		if fs := component.Decode(component.Default(), conf, props([]string{
			p + "security.protocol=SASL_SSL", p + "sasl.mechanism=SCRAM-SHA-256", p + "ssl.truststore.certificates=" + string(cert), p + "ssl.disableTLSHostnameVerification=true",
			p + `sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="` + password + `";`,
		})); len(fs) > 0 {
			t.Fatalf("%+v", fs)
		}
		e := env(nil)
		e.Servers = c.ListenAddrs()
		opts, err := conf.Options(e)
		if err != nil {
			t.Fatal(err)
		}
		var told error
		e.Component.Health = func(err error) { told = errors.Join(told, err) }
		cl, err := kgo.NewClient(append(opts, kgo.WithHooks(NewWatch(e.Component)), kgo.RetryTimeout(time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.Ping(context.Background()); (err == nil) != ok || (told == nil) != ok {
			t.Errorf("password %q: %v; told: %v", password, err, told)
		}
		cl.Close()
	}
}

func TestServers(t *testing.T) {
	tests := []struct{ in, want string }{
		{"h:9092", "h:9092"},
		{"h", "h:9092"},
		{"PLAINTEXT://h:1,[::1]:2", "h:1 [::1]:2"},
		{"[::1]", "[::1]:9092"},
		{"", "error"}, {"h:0", "error"}, {"h:99999", "error"}, {"h:x", "error"}, {":9092", "error"}, {"a:1:2", "error"}, {"a b", "error"}, {"zk:2181/kafka", "error"},
	}
	for _, tt := range tests {
		var list []string
		if tt.in != "" {
			list = strings.Split(tt.in, ",")
		}
		got, err := Servers(list)
		if s := strings.Join(got, " "); err == nil && s != tt.want || err != nil && tt.want != "error" {
			t.Errorf("%q: %q %v", tt.in, got, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	for fails, want := range map[int]time.Duration{0: 100, 1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 1000: 1000} {
		if got := backoff(100*time.Millisecond, time.Second, fails, 0.5); got != want*time.Millisecond {
			t.Errorf("%d failures: %v", fails, got)
		}
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		var log bytes.Buffer
		m := component.NewMetrics()
		w := NewWatch(component.Env{Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: m, Health: func(err error) { told = append(told, err) }})
		b := kgo.BrokerMetadata{Host: "h", Port: 9092}
		refused := errors.New("connection refused")
		lines := func() int { return strings.Count(log.String(), "\n") }

		for range 3 { // told once
			w.OnBrokerConnect(b, 0, nil, refused)
		}
		if len(told) != 1 || !errors.Is(told[0], refused) || !strings.Contains(told[0].Error(), "h:9092") || lines() != 1 {
			t.Fatalf("%v\n%s", told, log.String())
		}
		w.OnBrokerConnect(b, 0, nil, nil)
		w.OnBrokerE2E(b, 0, kgo.BrokerE2E{})
		w.OnBrokerE2E(b, 0, kgo.BrokerE2E{})
		if len(told) != 2 || told[1] != nil || lines() != 2 {
			t.Fatalf("%v\n%s", told, log.String())
		}
		// One of several brokers is down, or one restarts quickly.
		for range 10 {
			time.Sleep(time.Second)
			w.OnBrokerConnect(b, 0, nil, refused)
			w.OnBrokerE2E(b, 0, kgo.BrokerE2E{})
		}
		if len(told) != 2 {
			t.Fatalf("%v", told)
		}
		time.Sleep(time.Hour) // nobody asked anything, and the connection was closed
		w.OnBrokerE2E(b, 0, kgo.BrokerE2E{ReadErr: refused})
		time.Sleep(patience)
		w.OnBrokerE2E(b, 0, kgo.BrokerE2E{ReadErr: net.ErrClosed}) // our own closing is no news
		if len(told) != 2 {
			t.Fatalf("%v", told)
		}
		w.OnBrokerE2E(b, 0, kgo.BrokerE2E{ReadErr: refused})
		if len(told) != 3 || told[2] == nil {
			t.Fatalf("%v", told)
		}
		w.OnBrokerDisconnect(b, nil)
		s := m.Snapshot()
		if s["ConnectionCreatedCount"] != 1 || s["ConnectionFailedCount"] != 13 || s["ConnectionClosedCount"] != 1 {
			t.Errorf("%v", s)
		}
	})
}

func TestConditions(t *testing.T) {
	var told []error
	c := NewConditions(func(err error) { told = append(told, err) })
	e1, e2 := errors.New("one"), errors.New("two")
	if !c.Set("a", e1) || c.Set("a", errors.New("one")) || !c.Set("b", e2) || !c.Set("a", nil) || c.Set("a", nil) || !c.Set("b", nil) {
		t.Error("what is news")
	}
	if len(told) != 4 || !errors.Is(told[0], e1) || !errors.Is(told[1], e1) || !errors.Is(told[1], e2) || errors.Is(told[2], e1) || !errors.Is(told[2], e2) || told[3] != nil {
		t.Errorf("%v", told)
	}
}

var update = flag.Bool("update", false, "write docs/kafka-properties.md anew")

func TestPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "kafka-properties.md")
	want := page()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code declares: run go test ./internal/kafkaconf -update (%v)", path, err)
	}
}
