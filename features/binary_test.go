package features

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Context{
			Counts: []Count{}, Bytes: rapid.IntRange(0, sizeMax).Draw(t, "bytes"), Tokens: rapid.IntRange(0, 1<<30).Draw(t, "tokens"),
			PromptBytes: rapid.IntRange(0, 1<<30).Draw(t, "prompt"), Degraded: rapid.Bool().Draw(t, "degraded"),
		}
		for i := range want.Flags {
			want.Flags[i] = rapid.Float32Range(-1e9, 1e9).Draw(t, "flag")
		}
		buckets := rapid.SliceOfNDistinct(rapid.Uint16(), 0, 500, rapid.ID).Draw(t, "buckets")
		slices.Sort(buckets)
		for _, b := range buckets {
			want.Counts = append(want.Counts, Count{b, rapid.Uint16Min(1).Draw(t, "n")})
		}
		b := want.AppendBinary([]byte("before"))[len("before"):]
		got := Context{Counts: []Count{}}
		if err := got.Parse(b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// TestBinaryLimit: what does not fit is left out from the end, and what is left reads back.
func TestBinaryLimit(t *testing.T) {
	var c, got Context
	for i := range 1 << 15 {
		c.Counts = append(c.Counts, Count{uint16(2 * i), uint16(1 + i%300)})
	}
	b := c.AppendBinary(nil)
	if len(b) > MaxEncodedBytes || len(b) < MaxEncodedBytes-8 {
		t.Errorf("compact form of %d bytes, want just under %d", len(b), MaxEncodedBytes)
	}
	if err := got.Parse(b); err != nil {
		t.Fatal(err)
	}
	if n := len(got.Counts); n < 2000 || !slices.Equal(got.Counts, c.Counts[:n]) {
		t.Errorf("%d counts read back are not the first ones", n)
	}
}

func TestParseRefuses(t *testing.T) {
	good := (&Context{Counts: []Count{{5, 1}, {9, 3}}}).AppendBinary(nil)
	numbers := fixedBytes
	for name, b := range map[string][]byte{
		"empty":           nil,
		"too long":        make([]byte, MaxEncodedBytes+1),
		"version":         append([]byte{2}, good[1:]...),
		"flag NaN":        slices.Replace(slices.Clone(good), 1, 5, 0xff, 0xff, 0xff, 0xff),
		"cut number":      good[:len(good)-1],
		"no numbers":      good[:numbers],
		"not shortest":    slices.Replace(slices.Clone(good), numbers, numbers+1, 0x80, 0x00),
		"bucket too far":  append(slices.Clone(good), 0xfe, 0xff, 0x07),
		"number too long": append(slices.Clone(good), bytes.Repeat([]byte{0xff}, 11)...),
	} {
		var c Context
		if err := c.Parse(b); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: Parse: %v, want ErrEncoding", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add((&Context{Counts: []Count{{5, 1}, {9, 3}}, Bytes: 300, Degraded: true}).AppendBinary(nil))
	f.Add((&Context{Counts: []Count{{0, 65535}, {65535, 2}}}).AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Context
		if err := c.Parse(b); err != nil {
			return
		}
		if again := c.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, writes %x", b, again)
		}
	})
}

func FuzzExtract(f *testing.F) {
	e := testExtractor(f)
	f.Add("you are helpful", "good morning", uint8(User), 3)
	f.Add(harness(), coding, uint8(Tool), -1)
	f.Add("\xff\xfe", strings.Repeat("ﷺé\u0301", 3000), uint8(User), 1<<40)
	f.Add("", strings.Repeat(" ", 9000)+"x", uint8(9), 0)
	f.Add("", strings.Repeat("x", 9000), uint8(User), 0)
	f.Fuzz(func(t *testing.T, first, second string, role uint8, size int) {
		p := &Prompt{Turns: []Turn{{System, first}, {Role(role), second}, {Assistant, first}}, Tools: size, ToolBytes: size}
		a, b := &Context{Counts: make([]Count, 3)}, &Context{}
		e.Extract(a, p)
		e.Extract(b, p)
		check(t, e.spec, a)
		if len(a.Counts)+len(b.Counts) > 0 && !reflect.DeepEqual(a, b) {
			t.Fatalf("two extractions differ: %+v, %+v", a, b)
		}
		var c Context
		if err := c.Parse(a.AppendBinary(nil)); err != nil {
			t.Fatal(err)
		}
	})
}
