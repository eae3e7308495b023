package openai

import (
	"strings"
	"testing"
)

// TestPlainID: an id that every vendor takes stays, and any other becomes one of its own.
func TestPlainID(t *testing.T) {
	for _, id := range []string{"call_1", "toolu_01A-b", strings.Repeat("x", idMax)} {
		if got := PlainID(id); got != id {
			t.Errorf("%s became %s", id, got)
		}
	}
	seen := map[string]string{}
	for _, id := range []string{"", "functions.f:0", "functions.f:1", "语", "a b", strings.Repeat("x", idMax+1)} {
		got := PlainID(id)
		if got == id || PlainID(got) != got || seen[got] != "" {
			t.Errorf("%q became %q, as %q did", id, got, seen[got])
		}
		seen[got] = id
	}
}
