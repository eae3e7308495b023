package datasets

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// This file reads what append.go writes, field by field in the order in which it stands there. Whatever looks different
// in any way is left to encoding/json: a field that is added to a type and forgotten here makes reading slow, not wrong,
// and fails the test.

// ParseJSON sets the decision to what encoding/json reads from b, several times quicker where AppendJSON wrote it.
func (d *Decision) ParseJSON(b []byte) error {
	r := reader{b: b}
	if *d = r.decision(); r.end() {
		return nil
	}
	*d = Decision{}
	return json.Unmarshal(b, d)
}

// ParseJSON sets the outcome, as Decision's does.
func (o *Outcome) ParseJSON(b []byte) error {
	r := reader{b: b}
	if *o = r.outcome(); r.end() {
		return nil
	}
	*o = Outcome{}
	return json.Unmarshal(b, o)
}

// parseCase sets a case, as Decision's ParseJSON does.
func parseCase(c *policy.Case, b []byte) error {
	r := reader{b: b}
	if *c = r.policyCase(""); r.done() {
		return nil
	}
	*c = policy.Case{}
	return json.Unmarshal(b, c)
}

func (r *reader) decision() (d Decision) {
	d.RoundID = RoundID(r.text(`{"round_id":`))
	d.At = r.time(`,"at":`)
	d.RequestID = r.someText(`,"request_id":`)
	d.Org = r.someText(`,"org":`)
	d.Team = r.someText(`,"team":`)
	d.KeyID = r.someText(`,"key_id":`)
	d.Conversation = r.someText(`,"conversation":`)
	d.DrawID = RoundID(r.text(`,"draw_id":`))
	d.Requested = r.text(`,"requested":`)
	d.Policy = r.text(`,"policy":`)
	d.RouterVersion = r.someText(`,"router_version":`)
	d.CatalogVersion = r.someText(`,"catalog_version":`)
	d.Strategy = r.text(`,"strategy":`)
	d.Certified = r.bool(`,"certified":`)
	d.Complexity = r.float(`,"complexity":`)
	d.Case = r.policyCase(`,"case":`)
	d.Propensities = r.floats(`,"propensities":`)
	d.Action = catalog.ArmID(r.text(`,"action":`))
	d.Propensity = r.float(`,"propensity":`)
	d.Explored = r.bool(`,"explored":`)
	d.Reason = Reason(r.text(`,"reason":`))
	for more := r.has(`,"gates":[`); more; more = r.more() {
		d.Gates = append(d.Gates, r.string())
	}
	d.Hold = r.amount(`,"hold_usd":`)
	d.InputTokens = int(r.int(`,"input_tokens":`))
	for more := r.has(`,"needs":[`); more; more = r.more() {
		d.Needs = append(d.Needs, r.string())
	}
	d.Stream = r.someBool(`,"stream":`)
	d.EndUser = r.someText(`,"end_user":`)
	d.Tags = r.tags(`,"tags":`)
	if r.has(`,"features":`) {
		var err error
		if d.Features, err = base64.StdEncoding.DecodeString(r.string()); err != nil {
			r.bad = true
		}
	}
	d.SpecDigest = r.someText(`,"spec_digest":`)
	d.Prompt = r.someText(`,"prompt":`)
	return d
}

func (r *reader) outcome() (o Outcome) {
	o.RoundID = RoundID(r.text(`{"round_id":`))
	o.At = r.time(`,"at":`)
	o.Status = Status(r.text(`,"status":`))
	o.Served = catalog.ArmID(r.someText(`,"served":`))
	o.Reason = Reason(r.someText(`,"reason":`))
	for more := r.has(`,"attempts":[`); more; more = r.more() {
		o.Attempts = append(o.Attempts, r.attempt())
	}
	o.Usage.Input = r.int(`,"usage":{"input":`)
	o.Usage.CacheRead = r.int(`,"cache_read":`)
	o.Usage.CacheWrite = r.int(`,"cache_write":`)
	o.Usage.CacheWrite1h = r.someInt(`,"cache_write_1h":`)
	o.Usage.AudioInput = r.someInt(`,"audio_input":`)
	o.Usage.ImageInput = r.someInt(`,"image_input":`)
	o.Usage.Output = r.int(`,"output":`)
	o.Usage.Reasoning = r.someInt(`,"reasoning":`)
	o.Usage.AudioOutput = r.someInt(`,"audio_output":`)
	o.Cost = r.amount(`},"cost_usd":`)
	o.CostStatus = CostStatus(r.text(`,"cost_status":`))
	o.Error = r.someText(`,"error":`)
	if r.has(`,"ttft_ms":`) {
		ms := r.number()
		o.TTFTMS = &ms
	}
	o.LatencyMS = r.float(`,"latency_ms":`)
	o.OverheadMS = r.float(`,"overhead_ms":`)
	return o
}

func (r *reader) attempt() (a Attempt) {
	a.Arm = catalog.ArmID(r.text(`{"model":`))
	a.StartedAt = r.time(`,"started_at":`)
	a.Outcome = r.text(`,"outcome":`)
	if r.has(`,"http_status":`) {
		a.HTTPStatus = int(r.integer())
	}
	a.ErrorClass = r.someText(`,"error_class":`)
	if !r.has(`,"first_token_ms":null`) {
		ms := r.float(`,"first_token_ms":`)
		a.FirstTokenMS = &ms
	}
	a.TotalMS = r.float(`,"total_ms":`)
	a.Cost = r.amount(`,"cost_usd":`)
	for more := r.has(`,"gate_verdicts":[`); more; more = r.more() {
		v := GateVerdict{Gate: r.text(`{"gate":`), Verdict: Verdict(r.text(`,"verdict":`)), Reason: r.someText(`,"reason":`)}
		v.TotalMS = r.float(`,"total_ms":`)
		r.key("}")
		a.Verdicts = append(a.Verdicts, v)
	}
	r.key("}")
	return a
}

func (r *reader) policyCase(key string) (c policy.Case) {
	r.key(key)
	r.key(`{"candidates":`)
	if !r.has("null") {
		r.key("[")
		c.Candidates = make([]policy.Candidate, 0, bytes.Count(r.b, []byte(`{"arm":`)))
		for more := !r.has("]"); more; more = r.more() {
			c.Candidates = append(c.Candidates, r.candidate())
		}
	}
	c.Fallback = int(r.int(`,"fallback":`))
	c.Lambda = r.float(`,"lambda":`)
	c.LatencyFirst = r.someBool(`,"latency_first":`)
	c.AvailabilityFirst = r.someBool(`,"availability_first":`)
	c.Guard.On = r.bool(`,"guard":{"on":`)
	c.Guard.Z = r.float(`,"z":`)
	c.Guard.Tolerance = r.float(`,"tolerance":`)
	r.key("}")
	c.MeasuredFirst = r.someBool(`,"measured_first":`)
	c.QualityFloor = r.someFloat(`,"quality_floor":`)
	c.Reference = int(r.int(`,"reference":`))
	c.ReferenceGap = r.someFloat(`,"reference_gap":`)
	c.MaxCostUSD = r.someFloat(`,"max_cost_usd":`)
	c.MaxLatencyMS = r.someFloat(`,"max_latency_ms":`)
	c.Explore = r.bool(`,"explore":`)
	c.Epsilon = r.float(`,"epsilon":`)
	c.Pinned = int(r.int(`,"pinned":`))
	if r.has(`,"session":{"switch_usd":`) {
		c.Session.SwitchUSD = r.number()
		c.Session.Lambda = r.float(`,"lambda":`)
		c.Session.Margin = r.float(`,"margin":`)
		r.key("}")
	}
	if r.has(`,"paces":[`) {
		for more := true; more; more = r.more() {
			c.Paces = append(c.Paces, policy.Pace{Level: r.text(`{"level":`), Lambda: r.float(`,"lambda":`), Pressure: r.float(`,"pressure":`)})
			r.key("}")
		}
	}
	c.FloorReference = r.someBool(`,"floor_reference":`)
	r.key("}")
	return c
}

func (r *reader) candidate() (c policy.Candidate) {
	c.Arm = catalog.ArmID(r.text(`{"arm":`))
	c.Filter = policy.Filter(r.someText(`,"filter":`))
	c.Prior = r.someBool(`,"prior":`)
	c.Sticky = r.someBool(`,"sticky":`)
	c.Choice = int(r.someInt(`,"choice":`))
	c.Turn = int(r.someInt(`,"turn":`))
	c.Weight = r.someFloat(`,"weight":`)
	c.Quality = r.float(`,"quality":`)
	c.QualityErr = r.float(`,"quality_err":`)
	c.Score = r.float(`,"score":`)
	c.Gap = r.float(`,"gap":`)
	c.GapErr = r.float(`,"gap_err":`)
	c.History = r.someFloat(`,"history":`)
	c.OutputTokens = r.float(`,"output_tokens":`)
	c.CostUSD = r.float(`,"cost_usd":`)
	c.CostUpperUSD = r.float(`,"cost_upper_usd":`)
	c.Priced = r.bool(`,"priced":`)
	c.LatencyMS = r.someFloat(`,"latency_ms":`)
	c.LatencyP90MS = r.someFloat(`,"latency_p90_ms":`)
	c.Availability = r.float(`,"availability":`)
	r.key("}")
	return c
}

// reader is the writer's counterpart: each method takes what the writer's of its name appends, or turns bad, and then
// takes nothing more.
type reader struct {
	b   []byte
	bad bool
}

// end reports whether the object ends here and was as expected.
func (r *reader) end() bool {
	r.key("}")
	return r.done()
}

func (r *reader) done() bool { return !r.bad && len(r.b) == 0 }

// has takes s where it comes next.
func (r *reader) has(s string) bool {
	if r.bad || len(r.b) < len(s) || string(r.b[:len(s)]) != s {
		return false
	}
	r.b = r.b[len(s):]
	return true
}

func (r *reader) key(key string) { r.bad = !r.has(key) || r.bad }

// more takes what stands behind an element of a list, and reports whether another follows.
func (r *reader) more() bool {
	if r.has(",") {
		return true
	}
	r.key("]")
	return false
}

func (r *reader) bool(key string) bool {
	r.key(key)
	if r.has("true") {
		return true
	}
	r.key("false")
	return false
}

func (r *reader) someBool(key string) bool { return r.has(key) && r.bool("") }

// token takes the bytes of a number, as JSON allows them.
func (r *reader) token() []byte {
	i := 0
	digits := func() {
		start := i
		for i < len(r.b) && r.b[i]-'0' < 10 {
			i++
		}
		r.bad = r.bad || i == start
	}
	at := func(c byte) bool { return i < len(r.b) && r.b[i] == c }
	if at('-') {
		i++
	}
	if at('0') {
		i++
	} else {
		digits()
	}
	if at('.') {
		i++
		digits()
	}
	if at('e') {
		if i++; at('-') || at('+') {
			i++
		}
		digits()
	}
	token := r.b[:i]
	r.b = r.b[i:]
	return token
}

func (r *reader) integer() int64 {
	n, err := strconv.ParseInt(string(r.token()), 10, 64)
	r.bad = r.bad || err != nil
	return n
}

func (r *reader) int(key string) int64 {
	r.key(key)
	return r.integer()
}

func (r *reader) someInt(key string) int64 {
	if !r.has(key) {
		return 0
	}
	return r.integer()
}

func (r *reader) number() float64 {
	f, err := strconv.ParseFloat(string(r.token()), 64)
	r.bad = r.bad || err != nil
	return f
}

func (r *reader) float(key string) float64 {
	r.key(key)
	return r.number()
}

func (r *reader) someFloat(key string) float64 {
	if !r.has(key) {
		return 0
	}
	return r.number()
}

func (r *reader) floats(key string) []float64 {
	r.key(key)
	if r.has("null") {
		return nil
	}
	r.key("[")
	all := []float64{}
	for more := !r.has("]"); more; more = r.more() {
		all = append(all, r.number())
	}
	return all
}

func (r *reader) amount(key string) (n catalog.Nanodollars) {
	r.key(key)
	r.bad = r.bad || n.UnmarshalJSON(r.token()) != nil
	return n
}

func (r *reader) time(key string) (t time.Time) {
	r.key(key)
	r.bad = r.bad || t.UnmarshalText([]byte(r.string())) != nil
	return t
}

// string takes a string. One with an escape is left to encoding/json, and so is what is not UTF-8.
func (r *reader) string() (s string) {
	r.key(`"`)
	for i, c := range r.b {
		switch {
		case r.bad || c < ' ':
			r.bad = true
			return ""
		case c == '\\':
			return r.escaped(i)
		case c == '"':
			s, r.b = string(r.b[:i]), r.b[i+1:]
			r.bad = r.bad || !utf8.ValidString(s)
			return s
		}
	}
	r.bad = true
	return ""
}

// escaped takes a string whose opening quote is gone and whose first backslash is at i.
func (r *reader) escaped(i int) (s string) {
	for ; i < len(r.b) && r.b[i] != '"'; i++ {
		if r.b[i] == '\\' {
			i++
		}
	}
	if i >= len(r.b) {
		r.bad = true
		return ""
	}
	quoted := append(append([]byte{'"'}, r.b[:i]...), '"')
	r.bad = r.bad || json.Unmarshal(quoted, &s) != nil
	r.b = r.b[i+1:]
	return s
}

func (r *reader) text(key string) string {
	r.key(key)
	return r.string()
}

func (r *reader) someText(key string) string {
	if !r.has(key) {
		return ""
	}
	return r.string()
}

func (r *reader) tags(key string) (tags map[string]string) {
	if !r.has(key) {
		return nil
	}
	r.key("{")
	tags = map[string]string{}
	for more := !r.has("}"); more; {
		name := r.string()
		tags[name] = r.text(":")
		if more = r.has(","); !more {
			r.key("}")
		}
	}
	return tags
}
