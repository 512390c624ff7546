// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var digest = strings.Repeat("5a", 32)

// build makes a valid log of the given events in the SHA-1 and SHA-256 banks.
// An event that begins a segment begins it at the value before.
func build(events ...Event) []Record {
	value := Zero([]string{"sha1", "sha256"})
	var out []Record
	for i, e := range events {
		pcr := 8
		r := Record{
			PCR: &pcr, Digests: value.Measure(e.String()), ContentType: ContentType,
			Content: Content{String: e.String(), BootID: strings.Repeat("0b", 16), Timestamp: uint64(i+1) * 1e6, EventType: EventType},
			Atomic:  Detail{Version: Version, Seq: uint64(i), ResetCount: 1},
		}
		if e.Kind != Start {
			r.Atomic.Before = value
		}
		if i > 0 {
			r.Atomic.ResetCount = out[i-1].Atomic.ResetCount
			if e.Kind == Boot {
				r.Atomic.ResetCount++
			}
		}
		value = value.Extend(r.Digests)
		r.Atomic.Register = value
		out = append(out, r)
	}
	return out
}

func encode(t testing.TB, records []Record) []byte {
	t.Helper()
	var b []byte
	for _, r := range records {
		one, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, one...)
	}
	return b
}

func small() []Record {
	return build(BootEvent(), StartEvent("etcd", digest), StartEvent("flanneld", digest))
}

func TestParseEncode(t *testing.T) {
	want := small()
	data := encode(t, want)
	got, torn, err := Parse(data)
	if err != nil || torn != 0 {
		t.Fatalf("torn %d, %v", torn, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if _, err := Replay(got); err != nil {
		t.Error(err)
	}
}

// Wherever a write stops, the whole records are readable.
func TestParseTorn(t *testing.T) {
	records := small()
	data := encode(t, records)
	whole := len(encode(t, records[:2]))
	for n := whole; n < len(data); n++ {
		got, torn, err := Parse(data[:n])
		if err != nil || len(got) != 2 || torn != n-whole {
			t.Fatalf("%d of %d bytes: %d records, torn %d, %v", n, len(data), len(got), torn, err)
		}
		last, torn, err := Last(data[10:n])
		if err != nil || last == nil || last.Atomic.Seq != 1 || torn != n-whole {
			t.Fatalf("%d of %d bytes: last %v, torn %d, %v", n, len(data), last, torn, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	good := string(encode(t, small()[:1]))
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	tests := []struct{ name, log, want string }{
		{"not a sequence", "{}\n", "record 0 does not begin"},
		{"garbage between", good + "x" + good, "record 0 does not end"},
		{"missing newline", strings.TrimSuffix(good, "\n") + good, "record 0 does not end"},
		{"not JSON", good + "\x1e{\n", "record 1: unexpected end"},
		{"two values", "\x1e{}{}\n", "after top-level value"},
		{"empty", "\x1e\n", "unexpected end"},
		{"version", change(`"version":1`, `"version":2`), "version 2"},
		{"no atomic", "\x1e{\"pcr\":8}\n", "version 0"},
		{"bank", change(`"sha1"`, `"md5"`), `unknown hash algorithm "md5"`},
		{"bank order", change(`"sha256"`, `"sha1"`), "sha1 digest of 32 bytes"},
		{"upper case", change(`5a`, `5A`), "not lower case"},
		{"not hex", change(`5a`, `5x`), "not hex"},
		{"pcr", change(`"pcr":8`, `"pcr":24`), "pcr 24"},
		{"no pcr", change(`"pcr":8,`, ``), "either a pcr or a reason"},
		{"pcr and reason", change(`"resetCount":1`, `"unanchored":"x"`), "either a pcr or a reason"},
		{"register", change(`"register":[`, `"register":[],"x":[`), "register: no digests"},
		{"no register", change(`"register":[`, `"x":[`), "no register value"},
		{"long", "\x1e\"" + strings.Repeat("x", MaxRecord) + "\"\n", "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Parse([]byte(tt.log))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestReplay(t *testing.T) {
	found := Zero([]string{"sha1", "sha256"}).Extend(Zero([]string{"sha1", "sha256"}).Measure("boot loader, boot separator and 2 starts"))
	tests := []struct {
		name    string
		records []Record
		want    Summary
	}{
		{"empty", nil, Summary{PCR: -1}},
		{"boot", build(BootEvent()), Summary{PCR: 8}},
		{"starts", small(), Summary{PCR: 8, Starts: 2}},
		{"reset", build(BootEvent(), StartEvent("a", digest), BootEvent(), StartEvent("a", digest)), Summary{PCR: 8, Starts: 2, Resets: 1}},
		{"gap", rebase(build(BootEvent(), StartEvent("a", digest), GapEvent(found), StartEvent("a", digest)), 2, found), Summary{PCR: 8, Starts: 2, Gaps: 1}},
		{"gap first", rebase(build(GapEvent(found), StartEvent("a", digest)), 0, found), Summary{PCR: 8, Starts: 1, Gaps: 1}},
		{"boot loader", rebase(build(BootEvent(), StartEvent("a", digest)), 0, found), Summary{PCR: 8, Starts: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Replay(tt.records)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(tt.records); n > 0 && (!got.Register.Equal(tt.records[n-1].Atomic.Register) || !got.First.Equal(tt.records[0].Atomic.Before)) {
				t.Errorf("register %v, first %v", got.Register, got.First)
			}
			got.Register, got.First = nil, nil
			if d := cmp.Diff(tt.want, *got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// rebase gives the segment that begins at record i another value before.
func rebase(records []Record, i int, before Register) []Record {
	records[i].Atomic.Before = before
	for ; i < len(records); i++ {
		before = before.Extend(records[i].Digests)
		records[i].Atomic.Register = before
	}
	return records
}

// Every way to change a log must be noticed, or change the register.
func TestReplayTampering(t *testing.T) {
	other := strings.Repeat("a5", 32)
	tests := []struct {
		name   string
		tamper func(r []Record) []Record
		want   string
	}{
		{"text", func(r []Record) []Record {
			r[1].Content.String = StartEvent("etcd", other).String()
			return r
		}, "record 1: digest is not that of"},
		{"text and digest", func(r []Record) []Record {
			r[1].Content.String = StartEvent("etcd", other).String()
			r[1].Digests = r[1].Digests.Measure(r[1].Content.String)
			return r
		}, "record 1: register value does not follow"},
		{"one bank only", func(r []Record) []Record {
			r[1].Digests[0].Digest[0] ^= 1
			return r
		}, "record 1: digest is not that of"},
		{"register", func(r []Record) []Record {
			r[2].Atomic.Register[1].Digest[0] ^= 1
			return r
		}, "record 2: register value does not follow"},
		{"dropped", func(r []Record) []Record { return slices.Delete(r, 1, 2) }, "record 1: number 2 follows 0"},
		{"dropped first", func(r []Record) []Record { return r[1:] }, "record 0: the log begins with number 1"},
		{"dropped first, renumbered", func(r []Record) []Record {
			r = r[1:]
			r[0].Atomic.Seq, r[1].Atomic.Seq = 0, 1
			return r
		}, "record 0: the log begins without a separator"},
		{"swapped", func(r []Record) []Record {
			r[1], r[2] = r[2], r[1]
			return r
		}, "record 1: number 2 follows 0"},
		{"doubled", func(r []Record) []Record { return slices.Insert(r, 1, r[1]) }, "record 2: number 1 follows 1"},
		{"other register", func(r []Record) []Record {
			pcr := 16
			r[1].PCR = &pcr
			return r
		}, "record 1: the log changes its register"},
		{"unknown event", func(r []Record) []Record {
			r[1].Content.String = "atomic-stop:1:etcd"
			return r
		}, "of no known kind"},
		{"start anew at will", func(r []Record) []Record {
			r[1].Atomic.Before = Zero(r[1].Digests.Banks())
			return r
		}, "record 1: only a separator or a gap has a value before it"},
		{"reset without separator", func(r []Record) []Record {
			r[1].Atomic.ResetCount++
			return r
		}, "record 1: the TPM was reset without a separator"},
		{"separator without reset", func(r []Record) []Record {
			again := build(BootEvent())[0]
			again.Atomic.Seq = 3
			return append(r, again)
		}, "record 3: a second separator without a reset"},
		{"gap that hides its value", func(r []Record) []Record {
			gap := build(GapEvent(Zero([]string{"sha1", "sha256"})))[0]
			gap.Atomic.Seq = 3
			gap.Atomic.Before = r[2].Atomic.Register
			return append(r, gap)
		}, "record 3: the gap does not name the value"},
		{"bank dropped", func(r []Record) []Record {
			r[2].Digests, r[2].Atomic.Register = r[2].Digests[1:], r[2].Atomic.Register[1:]
			return r
		}, "record 2: banks differ"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Replay(tt.tamper(small()))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseEvent(t *testing.T) {
	for _, e := range []Event{BootEvent(), StartEvent("a.b-c_9", digest), GapEvent(Zero([]string{"sha1"})), GapEvent(Zero([]string{"sha256", "sha384"}))} {
		if got, err := ParseEvent(e.String()); err != nil || got != e {
			t.Errorf("%s: %v, %v", e, got, err)
		}
	}
	for _, text := range []string{
		"", "atomic-boot", "atomic-boot:2", "atomic-boot:1:", "atomic-start:1", "atomic-start:2:a:sha256:" + digest,
		"atomic-start:1::sha256:" + digest, "atomic-start:1:a b:sha256:" + digest, "atomic-start:1:a/b:sha256:" + digest,
		"atomic-start:1:a:sha256:" + digest + ":", "atomic-start:1:a:sha1:" + digest, "atomic-start:1:a:sha512:" + digest + digest,
		"atomic-start:1:a:sha256:" + strings.ToUpper(digest), "atomic-start:1:a:sha256:" + digest[2:], "atomic-gap:1:md5:00", "atomic-gap:1:sha256:",
	} {
		if e, err := ParseEvent(text); err == nil {
			t.Errorf("%q is accepted as %+v", text, e)
		}
	}
}

// The digest of the separator is part of the format.
func TestBootDigest(t *testing.T) {
	sum := sha256.Sum256([]byte("atomic-boot:1"))
	got, _ := small()[0].Digests.Get("sha256")
	if got.String() != hex.EncodeToString(sum[:]) {
		t.Errorf("separator digest %s", got)
	}
}

func TestExports(t *testing.T) {
	records := small()
	var cel, tcg bytes.Buffer
	if err := WriteCEL(&cel, records); err != nil {
		t.Fatal(err)
	}
	var parsed []struct {
		Recnum  int
		PCR     int
		Digests Register
		Content Content
	}
	if err := json.Unmarshal(cel.Bytes(), &parsed); err != nil || len(parsed) != 3 || parsed[2].Recnum != 2 || parsed[2].PCR != 8 {
		t.Errorf("%v\n%s", err, &cel)
	}
	if err := WriteTCG2(&tcg, records); err != nil {
		t.Fatal(err)
	}
	value, err := ReplayFirmware(tcg.Bytes(), 8, []string{"sha1", "sha256"})
	if err != nil || !value.Equal(records[2].Atomic.Register) {
		t.Errorf("replay of the TCG log gives %v, %v", value, err)
	}
	if value, err := ReplayFirmware(tcg.Bytes(), 9, []string{"sha256"}); err != nil || !value.IsZero() {
		t.Errorf("PCR 9: %v, %v", value, err)
	}
	if _, err := ReplayFirmware(tcg.Bytes(), 8, []string{"sha512"}); err == nil {
		t.Error("a bank that is not in the log is replayed")
	}
	for n := range tcg.Len() {
		if v, err := ReplayFirmware(tcg.Bytes()[:n], 8, []string{"sha256"}); err == nil && v.Equal(value) {
			t.Errorf("the log cut to %d bytes replays", n)
		}
	}
	if err := WriteTCG2(&tcg, nil); err == nil {
		t.Error("an empty TCG log is written")
	}
}

// docs/formats/eventlog.md shows this log.
func TestExample(t *testing.T) {
	data, err := os.ReadFile("testdata/example.log")
	if err != nil {
		t.Fatal(err)
	}
	records, torn, err := Parse(data)
	if err != nil || torn != 0 {
		t.Fatal(torn, err)
	}
	sum, err := Replay(records)
	if err != nil || sum.Starts != 2 || sum.Gaps != 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if !bytes.Equal(encode(t, records), data) {
		t.Error("the example is not what Encode writes")
	}
	doc, err := os.ReadFile("../../docs/formats/eventlog.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if !strings.Contains(string(doc), strings.TrimPrefix(line, "\x1e")) {
			t.Errorf("docs/formats/eventlog.md does not show %s", line)
		}
	}
}

func FuzzParse(f *testing.F) {
	log := encode(f, small())
	f.Add(log)
	f.Add(log[:len(log)-5])
	f.Add([]byte("\x1e{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, torn, err := Parse(data)
		if err != nil {
			return
		}
		if torn < 0 || torn > len(data) {
			t.Fatalf("torn %d of %d", torn, len(data))
		}
		for _, r := range records { // what was read can be written and means the same
			one, err := Encode(r)
			if err != nil {
				continue // a record can grow beyond the limit by escapes
			}
			again, _, err := Parse(one)
			if err != nil || len(again) != 1 {
				t.Fatalf("%q: %v", one, err)
			}
		}
		last, _, err := Last(data)
		if err != nil || (last == nil) != (len(records) == 0) {
			t.Fatalf("Last says %v, %v; Parse has %d records", last, err, len(records))
		}
		if sum, err := Replay(records); err == nil && len(records) > 0 && sum.Register.Equal(sum.First) {
			t.Fatal("records do not change the register")
		}
	})
}

func FuzzFirmware(f *testing.F) {
	var tcg bytes.Buffer
	if err := WriteTCG2(&tcg, small()); err != nil {
		f.Fatal(err)
	}
	f.Add(tcg.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := ReplayFirmware(data, 8, []string{"sha256"})
		if err == nil && len(value) != 1 {
			t.Fatalf("value %v", value)
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	events := []Event{BootEvent()}
	for range 9999 {
		events = append(events, StartEvent("etcd", digest))
	}
	data := encode(b, build(events...))
	for b.Loop() {
		records, _, err := Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Replay(records); err != nil {
			b.Fatal(err)
		}
	}
}
