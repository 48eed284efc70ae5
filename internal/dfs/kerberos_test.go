package dfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// refusingKDC answers each request with an error: the first with one that asks for
// proof of the key, those behind it with code.
func refusingKDC(t *testing.T, code int32) (addr string, asked *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	answer := func(c net.Conn) {
		defer c.Close()
		var n [4]byte
		if _, err := io.ReadFull(c, n[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(n[:]))); err != nil {
			return
		}
		e := messages.NewKRBError(types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/REALM"), "REALM", errorcode.KDC_ERR_PREAUTH_REQUIRED, "")
		// PA-ETYPE-INFO2 (19): the encryption type 18.
		e.EData = []byte("\x30\x14\x30\x12\xa1\x03\x02\x01\x13\xa2\x0b\x04\x09\x30\x07\x30\x05\xa0\x03\x02\x01\x12")
		if asked.Add(1) > 1 {
			e.ErrorCode, e.EData = code, nil
		}
		b, err := e.Marshal()
		if err != nil {
			t.Error(err)
			return
		}
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		_, _ = c.Write(append(n[:], b...)) // who has gone away does not want it
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { answer(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), asked
}

func writeKeytab(t *testing.T, file, principal string) {
	t.Helper()
	keys := keytab.New()
	if err := keys.AddEntry(principal, "REALM", "secret", time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatal(err)
	}
	b, err := keys.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A login that fails says what to correct, and one that was corrected needs no restart.
func TestKerberosRefused(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tt := range []struct {
		name, keys string
		code       int32 // 0: nobody is there
		says       string
	}{
		{"principal", "flume", errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN, "correct hdfs.kerberosPrincipal"},
		{"key", "flume", errorcode.KDC_ERR_PREAUTH_FAILED, "have the keytab made anew"},
		{"keytab of another", "other", errorcode.KDC_ERR_PREAUTH_FAILED, "hdfs.kerberosPrincipal is not there"},
		{"clock", "flume", errorcode.KRB_AP_ERR_SKEW, "set the clock"},
		{"nobody", "flume", 0, "see whether the KDC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			kdc, asked := closed.Addr().String(), new(atomic.Int64)
			if tt.code != 0 {
				kdc, asked = refusingKDC(t, tt.code)
			}
			for name, text := range map[string]string{
				"krb5.conf":     fmt.Sprintf("[libdefaults]\ndefault_realm = REALM\nudp_preference_limit = 1\ndns_lookup_kdc = false\ndefault_tkt_enctypes = aes256-cts-hmac-sha1-96\n[realms]\nREALM = {\n kdc = %s\n}\n", kdc),
				"hdfs-site.xml": "<configuration><property><name>dfs.namenode.kerberos.principal</name><value>nn/_HOST@REALM</value></property></configuration>",
				"core-site.xml": "<configuration/>",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			keys := filepath.Join(dir, "keys")
			writeKeytab(t, keys, tt.keys)
			fs, err := Open("hdfs://127.0.0.1:1/x", Options{Log: slog.New(slog.DiscardHandler), CallTimeout: 5 * time.Second, Principal: "flume@REALM", Keytab: keys,
				Krb5Conf: filepath.Join(dir, "krb5.conf"), ConfDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fs.Create("/x/a"); err == nil || !strings.Contains(err.Error(), "log in to Kerberos as flume@REALM") || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %v", err)
			}
			if tt.code != 0 && asked.Load() == 0 {
				t.Error("the KDC was not asked")
			}
			// The keytab is read for each login.
			if err := os.Remove(keys); err != nil {
				t.Fatal(err)
			}
			if _, err := fs.Create("/x/a"); err == nil || !strings.Contains(err.Error(), "read hdfs.kerberosKeytab") {
				t.Errorf("without a keytab it says %v", err)
			}
			if err := fs.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
