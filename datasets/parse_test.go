package datasets_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets"
)

// parses checks that what v writes is read quickly and as encoding/json reads it.
func parses(t rapid.TB, v appendsJSON) {
	t.Helper()
	text, err := v.AppendJSON(nil)
	if err != nil {
		return
	}
	quick := datasets.QuickDecision
	if _, ok := v.(*datasets.Outcome); ok {
		quick = datasets.QuickOutcome
	}
	if !quick(text) {
		t.Fatalf("this takes the slow way; give parse.go the field that is new: %s", text)
	}
	alike(t, text)
}

// alike checks that ParseJSON makes of any text what encoding/json makes of it.
func alike(t rapid.TB, text []byte) {
	t.Helper()
	d, o := datasets.Decision{Org: "before"}, datasets.Outcome{Error: "before"}
	var wantD datasets.Decision
	var wantO datasets.Outcome
	for _, c := range []struct {
		got, want       any
		gotErr, wantErr error
	}{
		{&d, &wantD, d.ParseJSON(text), json.Unmarshal(text, &wantD)},
		{&o, &wantO, o.ParseJSON(text), json.Unmarshal(text, &wantO)},
	} {
		if (c.gotErr == nil) != (c.wantErr == nil) || c.gotErr == nil && !reflect.DeepEqual(c.got, c.want) {
			t.Fatalf("ParseJSON: %+v, %v\nencoding/json: %+v, %v\nof %s", c.got, c.gotErr, c.want, c.wantErr, text)
		}
	}
}

// TestParseJSONOther: what nobody here would write is read as well, or refused, as encoding/json does.
func TestParseJSONOther(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{}`, `null`, `[]`, ` {"round_id":"r"} `, `{"at":"2026-01-02T15:04:05Z","round_id":"r"}`, `{"ROUND_ID":"r"}`, `{"round_id":"r","more":1}`,
		`{"round_id":"r","at":"2026-01-02"`, `{"round_id":7}`, `{"round_id":"a\u00e9\ud83d\ude00\"\n"}`, "{\"round_id\":\"\xff\"}", "{\"round_id\":\"\n\"}", `{"round_id":"\`, `{"round_id":"\x"}`,
	} {
		alike(t, []byte(text))
	}
}

func FuzzParseJSON(f *testing.F) {
	rapid.Check(f, func(t *rapid.T) {
		var d datasets.Decision
		var o datasets.Outcome
		fill(t, reflect.ValueOf(&d).Elem(), 0.1)
		fill(t, reflect.ValueOf(&o).Elem(), 0.1)
		for _, v := range []appendsJSON{&d, &o} {
			if text, err := v.AppendJSON(nil); err == nil {
				f.Add(text)
			}
		}
	})
	f.Fuzz(func(t *testing.T, text []byte) { alike(t, text) })
}
