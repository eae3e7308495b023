package datasets_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets"
)

// appendsJSON is what a decision and an outcome can do.
type appendsJSON interface {
	AppendJSON(b []byte) ([]byte, error)
}

// standard is what encoding/json makes of v, without HTML escapes.
func standard(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func same(t rapid.TB, v appendsJSON) {
	t.Helper()
	want, wantErr := standard(v)
	got, err := v.AppendJSON([]byte("before"))
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("AppendJSON: %v, encoding/json: %v", err, wantErr)
	}
	if err != nil {
		want = "" // and nothing is left of what was begun
	}
	if string(got) != "before"+want {
		t.Fatalf("AppendJSON:   %s\nencoding/json: %s", got, want)
	}
}

// TestAppendJSON: byte for byte what encoding/json writes. Every field is filled by reflection, or left at zero, so a
// field that is added to a type and not to its appender is found.
func TestAppendJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d datasets.Decision
		var o datasets.Outcome
		zeros := rapid.Float64Range(0, 1).Draw(t, "zeros")
		fill(t, reflect.ValueOf(&d).Elem(), zeros)
		fill(t, reflect.ValueOf(&o).Elem(), zeros)
		same(t, &d)
		same(t, &o)
		parses(t, &d)
		parses(t, &o)
	})
	same(t, &datasets.Decision{})
	same(t, &datasets.Outcome{})
}

var (
	texts = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"<b>&amp;", "\u2028\u2029", "\xff\xc3(", "\x00\x1f\x7f\b\f\n\r\t", `"\`, "\ufffd", "日本語 🚢", "\xe2\x80", "a\xed\xa0\x80b",
	}))
	numbers = rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1), rapid.Map(rapid.Int16(), func(n int16) float64 { return float64(n) }),
		rapid.Map(rapid.Int64Range(-1e15-9, 1e15+9), func(n int64) float64 { return float64(n) / 1e9 }),
		rapid.Map(rapid.Int64Range(-1e7, 1e7), func(n int64) float64 { return float64(n) / 1e6 }),
		rapid.Map(rapid.Int64Range(-1e15, 1e15), func(n int64) float64 { return math.Nextafter(float64(n)/1e9, 1) }),
		rapid.SampledFrom([]float64{
			math.Copysign(0, -1), 1e-6, 9.999e-7, -1e-7, 1e-10, 1e-100, 5e-324, 1e20, 1e21, -1e21, 1.5e300, math.MaxFloat64, 0.1, 1.0 / 3,
		}))
)

// fill sets a value and all below it.
func fill(t *rapid.T, v reflect.Value, zeros float64) {
	if v.Kind() != reflect.Struct && rapid.Float64Range(0, 1).Draw(t, "zero") < zeros {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts.Draw(t, "text"))
	case reflect.Float64:
		v.SetFloat(numbers.Draw(t, "number"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "integer"))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, "byte")))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), zeros)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i), zeros)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(rapid.MapOfN(texts, texts, 0, 4).Draw(t, "map")))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			at := time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
			zone := time.FixedZone("", rapid.IntRange(-14*60, 14*60).Draw(t, "minutes east")*60)
			v.Set(reflect.ValueOf(rapid.SampledFrom([]time.Time{at.UTC(), at.In(zone), datasets.Instant(at), {}}).Draw(t, "time")))
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i), zeros)
		}
	default:
		t.Fatalf("no value for a %s: give fill one", v.Kind())
	}
}

// TestAppendJSONRefuses: what cannot be written is refused, as encoding/json refuses it.
func TestAppendJSONRefuses(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		same(t, &datasets.Decision{Complexity: f})
		same(t, &datasets.Decision{Propensities: []float64{0, f}})
		same(t, &datasets.Outcome{TTFTMS: &f})
	}
	same(t, &datasets.Decision{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)})
	same(t, &datasets.Outcome{Attempts: []datasets.Attempt{{StartedAt: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}}})
}
