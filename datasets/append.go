package datasets

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// This file writes decisions and outcomes as JSON, each field by hand: every request writes one of both, and reflection
// is most of what that would cost. What it writes is byte for byte what encoding/json writes without HTML escapes; the
// test fills every field by reflection, so one that is added to a type and forgotten here fails it.

// AppendJSON appends the decision as encoding/json would write it. Like that it fails on a number that is not finite
// and on a time outside of the years 0 to 9999; b is then returned as it was.
func (d *Decision) AppendJSON(b []byte) ([]byte, error) {
	w := writer{b: b}
	w.text(`{"round_id":`, string(d.RoundID))
	w.time(`,"at":`, d.At)
	w.someText(`,"request_id":`, d.RequestID)
	w.someText(`,"org":`, d.Org)
	w.someText(`,"team":`, d.Team)
	w.someText(`,"key_id":`, d.KeyID)
	w.someText(`,"conversation":`, d.Conversation)
	w.text(`,"draw_id":`, string(d.DrawID))
	w.text(`,"requested":`, d.Requested)
	w.text(`,"policy":`, d.Policy)
	w.someText(`,"router_version":`, d.RouterVersion)
	w.someText(`,"catalog_version":`, d.CatalogVersion)
	w.text(`,"strategy":`, d.Strategy)
	w.bool(`,"certified":`, d.Certified)
	w.float(`,"complexity":`, d.Complexity)
	w.policyCase(`,"case":`, &d.Case)
	w.floats(`,"propensities":`, d.Propensities)
	w.text(`,"action":`, string(d.Action))
	w.float(`,"propensity":`, d.Propensity)
	w.bool(`,"explored":`, d.Explored)
	w.text(`,"reason":`, string(d.Reason))
	w.someTexts(`,"gates":`, d.Gates)
	w.amount(`,"hold_usd":`, d.Hold)
	w.int(`,"input_tokens":`, int64(d.InputTokens))
	w.someTexts(`,"needs":`, d.Needs)
	w.someBool(`,"stream":`, d.Stream)
	w.someText(`,"end_user":`, d.EndUser)
	w.tags(`,"tags":`, d.Tags)
	if len(d.Features) > 0 {
		w.key(`,"features":"`)
		w.b = append(base64.StdEncoding.AppendEncode(w.b, d.Features), '"')
	}
	w.someText(`,"spec_digest":`, d.SpecDigest)
	w.someText(`,"prompt":`, d.Prompt)
	return w.end(b)
}

// AppendJSON appends the outcome, as Decision's does.
func (o *Outcome) AppendJSON(b []byte) ([]byte, error) {
	w := writer{b: b}
	w.text(`{"round_id":`, string(o.RoundID))
	w.time(`,"at":`, o.At)
	w.text(`,"status":`, string(o.Status))
	w.someText(`,"served":`, string(o.Served))
	w.someText(`,"reason":`, string(o.Reason))
	for i := range o.Attempts {
		if i == 0 {
			w.key(`,"attempts":[`)
		} else {
			w.key(",")
		}
		w.attempt(&o.Attempts[i])
	}
	if len(o.Attempts) > 0 {
		w.key("]")
	}
	w.int(`,"usage":{"input":`, o.Usage.Input)
	w.int(`,"cache_read":`, o.Usage.CacheRead)
	w.int(`,"cache_write":`, o.Usage.CacheWrite)
	w.someInt(`,"cache_write_1h":`, o.Usage.CacheWrite1h)
	w.someInt(`,"audio_input":`, o.Usage.AudioInput)
	w.someInt(`,"image_input":`, o.Usage.ImageInput)
	w.int(`,"output":`, o.Usage.Output)
	w.someInt(`,"reasoning":`, o.Usage.Reasoning)
	w.someInt(`,"audio_output":`, o.Usage.AudioOutput)
	w.amount(`},"cost_usd":`, o.Cost)
	w.text(`,"cost_status":`, string(o.CostStatus))
	w.someText(`,"error":`, o.Error)
	if o.TTFTMS != nil {
		w.float(`,"ttft_ms":`, *o.TTFTMS)
	}
	w.float(`,"latency_ms":`, o.LatencyMS)
	w.float(`,"overhead_ms":`, o.OverheadMS)
	return w.end(b)
}

func (w *writer) attempt(a *Attempt) {
	w.text(`{"model":`, string(a.Arm))
	w.time(`,"started_at":`, a.StartedAt)
	w.text(`,"outcome":`, a.Outcome)
	if a.HTTPStatus != 0 {
		w.int(`,"http_status":`, int64(a.HTTPStatus))
	}
	w.someText(`,"error_class":`, a.ErrorClass)
	if a.FirstTokenMS != nil {
		w.float(`,"first_token_ms":`, *a.FirstTokenMS)
	} else {
		w.key(`,"first_token_ms":null`)
	}
	w.float(`,"total_ms":`, a.TotalMS)
	w.amount(`,"cost_usd":`, a.Cost)
	for i := range a.Verdicts {
		w.key([...]string{`,"gate_verdicts":[`, ","}[min(i, 1)])
		w.verdict(&a.Verdicts[i])
	}
	if len(a.Verdicts) > 0 {
		w.key("]")
	}
	w.key("}")
}

func (w *writer) verdict(v *GateVerdict) {
	w.text(`{"gate":`, v.Gate)
	w.text(`,"verdict":`, string(v.Verdict))
	w.someText(`,"reason":`, v.Reason)
	w.float(`,"total_ms":`, v.TotalMS)
	w.key("}")
}

// appendCase appends a case, as Decision's AppendJSON does.
func appendCase(b []byte, c *policy.Case) ([]byte, error) {
	w := writer{b: b}
	w.policyCase("", c)
	return w.b, w.err
}

func (w *writer) policyCase(key string, c *policy.Case) {
	w.key(key)
	w.key(`{"candidates":`)
	if c.Candidates == nil {
		w.key("null")
	} else {
		w.key("[")
		for i := range c.Candidates {
			if i > 0 {
				w.key(",")
			}
			w.candidate(&c.Candidates[i])
		}
		w.key("]")
	}
	w.int(`,"fallback":`, int64(c.Fallback))
	w.float(`,"lambda":`, c.Lambda)
	w.someBool(`,"latency_first":`, c.LatencyFirst)
	w.someBool(`,"availability_first":`, c.AvailabilityFirst)
	w.bool(`,"guard":{"on":`, c.Guard.On)
	w.float(`,"z":`, c.Guard.Z)
	w.float(`,"tolerance":`, c.Guard.Tolerance)
	w.key("}")
	w.someBool(`,"measured_first":`, c.MeasuredFirst)
	w.someFloat(`,"quality_floor":`, c.QualityFloor)
	w.int(`,"reference":`, int64(c.Reference))
	w.someFloat(`,"reference_gap":`, c.ReferenceGap)
	w.someFloat(`,"max_cost_usd":`, c.MaxCostUSD)
	w.someFloat(`,"max_latency_ms":`, c.MaxLatencyMS)
	w.bool(`,"explore":`, c.Explore)
	w.float(`,"epsilon":`, c.Epsilon)
	w.int(`,"pinned":`, int64(c.Pinned))
	if s := &c.Session; *s != (policy.Session{}) {
		w.float(`,"session":{"switch_usd":`, s.SwitchUSD)
		w.float(`,"lambda":`, s.Lambda)
		w.float(`,"margin":`, s.Margin)
		w.key("}")
	}
	if len(c.Paces) > 0 {
		w.paces(`,"paces":[`, c.Paces)
	}
	w.someBool(`,"floor_reference":`, c.FloorReference)
	w.key("}")
}

func (w *writer) paces(key string, paces []policy.Pace) {
	w.key(key)
	for i := range paces {
		if i > 0 {
			w.key(",")
		}
		w.text(`{"level":`, paces[i].Level)
		w.float(`,"lambda":`, paces[i].Lambda)
		w.float(`,"pressure":`, paces[i].Pressure)
		w.key("}")
	}
	w.key("]")
}

func (w *writer) candidate(c *policy.Candidate) {
	w.text(`{"arm":`, string(c.Arm))
	w.someText(`,"filter":`, string(c.Filter))
	w.someBool(`,"prior":`, c.Prior)
	w.someBool(`,"sticky":`, c.Sticky)
	w.someInt(`,"choice":`, int64(c.Choice))
	w.someInt(`,"turn":`, int64(c.Turn))
	w.someFloat(`,"weight":`, c.Weight)
	w.float(`,"quality":`, c.Quality)
	w.float(`,"quality_err":`, c.QualityErr)
	w.float(`,"score":`, c.Score)
	w.float(`,"gap":`, c.Gap)
	w.float(`,"gap_err":`, c.GapErr)
	w.someFloat(`,"history":`, c.History)
	w.float(`,"output_tokens":`, c.OutputTokens)
	w.float(`,"cost_usd":`, c.CostUSD)
	w.float(`,"cost_upper_usd":`, c.CostUpperUSD)
	w.bool(`,"priced":`, c.Priced)
	w.someFloat(`,"latency_ms":`, c.LatencyMS)
	w.someFloat(`,"latency_p90_ms":`, c.LatencyP90MS)
	w.float(`,"availability":`, c.Availability)
	w.key("}")
}

// writer appends JSON. A key comes with what stands around it, so that it is one copy; the methods whose names begin
// with some leave a zero value out, as omitempty does.
type writer struct {
	b   []byte
	err error
}

// end closes the object, or undoes what was written before an error.
func (w *writer) end(b []byte) ([]byte, error) {
	if w.err != nil {
		return b, w.err
	}
	return append(w.b, '}'), nil
}

func (w *writer) key(key string) { w.b = append(w.b, key...) }

func (w *writer) bool(key string, v bool) { w.b = strconv.AppendBool(append(w.b, key...), v) }

func (w *writer) someBool(key string, v bool) {
	if v {
		w.bool(key, v)
	}
}

func (w *writer) int(key string, v int64) { w.b = strconv.AppendInt(append(w.b, key...), v, 10) }

func (w *writer) someInt(key string, v int64) {
	if v != 0 {
		w.int(key, v)
	}
}

func (w *writer) amount(key string, v catalog.Nanodollars) {
	w.b = v.AppendText(append(w.b, key...))
}

func (w *writer) time(key string, t time.Time) {
	b, err := t.AppendText(append(append(w.b, key...), '"'))
	if err != nil {
		w.err = fmt.Errorf("datasets: writing a time: %w", err)
		return
	}
	w.b = append(b, '"')
}

func (w *writer) float(key string, f float64) {
	w.key(key)
	w.number(f)
}

func (w *writer) someFloat(key string, f float64) {
	if f != 0 {
		w.float(key, f)
	}
}

func (w *writer) floats(key string, v []float64) {
	w.key(key)
	if v == nil {
		w.key("null")
		return
	}
	w.key("[")
	for i, f := range v {
		if i > 0 {
			w.key(",")
		}
		w.number(f)
	}
	w.key("]")
}

// number writes a float in its shortest exact form, with an exponent below 1e-6 and from 1e21 on, as JavaScript does.
func (w *writer) number(f float64) {
	size := math.Abs(f)
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		w.err = fmt.Errorf("datasets: %v cannot be written as JSON", f)
	case math.Float64bits(f) == 0:
		w.key("0")
	case size < 1e6 && w.nanos(f):
	case size == 0 || size >= 1e-6 && size < 1e21:
		w.b = strconv.AppendFloat(w.b, f, 'f', -1, 64)
	default:
		w.b = strconv.AppendFloat(w.b, f, 'e', -1, 64)
		if n := len(w.b); w.b[n-3] == '-' && w.b[n-2] == '0' { // e-09 is e-9
			w.b[n-2], w.b = w.b[n-1], w.b[:n-1]
		}
	}
}

// nanos writes a float below 1e6 that is a whole number of billionths, from a thousand on, and reports whether it is
// one. That is several times quicker than the search for the shortest form, and is that form: of two decimals of at
// most 15 digits no float is the nearest of both, so there is no shorter one.
func (w *writer) nanos(f float64) bool {
	size := math.Abs(f)
	whole := math.RoundToEven(size * 1e9)
	if whole < 1000 || whole/1e9 != size {
		return false
	}
	if f < 0 {
		w.b = append(w.b, '-')
	}
	n := uint64(whole)
	if n < 1e9 {
		w.b = append(w.b, '0')
	} else {
		w.b = strconv.AppendUint(w.b, n/1e9, 10)
	}
	frac, end := uint32(n%1e9), 10
	if frac == 0 {
		return true
	}
	if frac%1000 == 0 { // most are millionths
		frac, end = frac/1000, 7
	}
	digits := [10]byte{'.'}
	for i := end - 1; i > 0; i-- {
		digits[i], frac = byte('0'+frac%10), frac/10
	}
	for digits[end-1] == '0' {
		end--
	}
	w.b = append(w.b, digits[:end]...)
	return true
}

func (w *writer) text(key, s string) { w.b = appendString(append(w.b, key...), s) }

func (w *writer) someText(key, s string) {
	if s != "" {
		w.text(key, s)
	}
}

func (w *writer) someTexts(key string, list []string) {
	for i, s := range list {
		w.text([...]string{key + "[", ","}[min(i, 1)], s)
	}
	if len(list) > 0 {
		w.key("]")
	}
}

func (w *writer) tags(key string, tags map[string]string) {
	if len(tags) == 0 {
		return
	}
	var few [16]string // on the stack
	names := slices.AppendSeq(few[:0], maps.Keys(tags))
	slices.Sort(names)
	w.key(key)
	for i, name := range names {
		w.text([...]string{"{", ","}[min(i, 1)], name)
		w.text(":", tags[name])
	}
	w.key("}")
}

// appendString quotes s. It escapes what JSON asks for and the two line ends that JavaScript does not take in a string;
// a byte that is not UTF-8 becomes the replacement character.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if c >= utf8.RuneSelf && !(r == utf8.RuneError && size == 1) && r != '\u2028' && r != '\u2029' {
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		}
		i += size
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
