package serving

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file says why no model serves a request.

// unknownModel is the refusal of a name that no arm has, with the nearest that do.
func (r *round) unknownModel(param, name string) error {
	if err := r.elsewhere(param, name); err != nil {
		return err
	}
	e := openai.NewError(openai.ModelNotFound, "the model %.128q is not served here", name)
	e.Param = param
	var near []string
	if param == "model" && r.surface.direct == nil {
		near = openai.Nearest(name, openai.AutoNames(), 1)
	}
	for _, id := range r.live.catalog.Nearest(name, catalog.NearestMax) {
		if !r.barred(id) && len(near) < 3 { // what the key may not use is not told
			near = append(near, string(id))
		}
	}
	if len(near) > 0 {
		e.Message += "; the nearest are " + strings.Join(near, ", ")
		e.Extra = map[string]any{"nearest": near}
	}
	return e
}

// unknownGroup is the refusal of auto/<group> where no alias has the group's name.
func (r *round) unknownGroup(name string) error {
	e := openai.NewError(openai.ModelNotFound, "no alias %.128q is configured here", name)
	e.Param = "model"
	var near []string
	for _, alias := range openai.Nearest(name, slices.Sorted(maps.Keys(r.live.Aliases)), 3) {
		near = append(near, "auto/"+alias)
	}
	if len(near) > 0 {
		e.Message += "; the nearest are " + strings.Join(near, ", ")
		e.Extra = map[string]any{"nearest": near}
	}
	return e
}

// noCandidate says which filter took each arm, or the one thing that was short: the window or the money. Of a named
// model only its own filter counts.
func (r *round) noCandidate() error {
	type removed struct {
		Model  catalog.ArmID `json:"model"`
		Filter policy.Filter `json:"filter"`
	}
	var all []removed
	c, count, window, field := &r.decision.Case, map[policy.Filter]int{}, 0, ""
	for i, a := range c.Candidates {
		if c.Pinned >= 0 && i != c.Pinned {
			continue
		}
		all = append(all, removed{a.Arm, a.Filter})
		count[a.Filter]++
		if _, f := r.unsaid(&r.router.arms[i]); f != "" && field == "" {
			field = f
		}
		if a.Filter == policy.ContextTooSmall {
			window = max(window, r.router.arms[i].ContextTokens, r.router.arms[i].MaxInputTokens)
		}
	}
	allowed := len(all) - count[policy.NotAllowed] - count[policy.Denied]
	switch {
	case count[policy.RateLimited] > 0: // by limits of our own, or it would be tried
		return r.noRoom()
	case count[policy.Budget] > 0:
		return r.budgetGone()
	case allowed > 0 && allowed == count[policy.Unpriced] && r.limited():
		return r.unpricedOnly()
	}
	e := openai.NewError(openai.NoCandidate, "no model can serve this request: every one was filtered (%s)", tally(count))
	if allowed > 0 && allowed == count[policy.ContextTooSmall] {
		e = openai.NewError(openai.ContextLengthExceeded, "the prompt has about %d tokens; the largest window has %d", r.context.Tokens, window)
	}
	if allowed > 0 && allowed == count[policy.Unpriced] {
		e.Message += ": nobody knows whether a model without a price keeps to a cap on costs; set input_usd_per_mtok and output_usd_per_mtok, or free"
	}
	if n := count[policy.DataPolicy] + count[policy.Quantized]; allowed > 0 && allowed == n {
		e.Message += ": what nobody has declared counts as not so; set data_collection or zdr of a provider, and quantization of a model, where it is"
	}
	if n := count[policy.Dialect] + count[policy.ParamUnsupported]; allowed > 0 && allowed == n {
		e = openai.NewError(openai.NoCandidate, "%s cannot be said to any model that may serve this request", cmp.Or(field, "a request to "+r.surface.path))
		if s := r.spoken; s != nil && field != "" && !strings.ContainsAny(field, ".[") && !slices.Contains(s.Known, field) {
			e.Message += openai.DidYouMean(field, s.Known)
		}
		e.Param = field
	}
	if e.Param == "" && count[policy.Denied] > 0 {
		e.Message += r.unheardOf()
	}
	e.Extra = map[string]any{"filtered": all}
	return e
}

// unheardOf tells of a list of what the request allows that nothing here is on, and the nearest that is; "" where there is none.
func (r *round) unheardOf() string {
	o := &r.wire.Tradewind
	lists := slices.Clone(o.Allow)
	if p := o.Provider; p != nil && p.Alone {
		lists = append(lists, openai.OfProviders(p.Order))
	}
	var names []string
	for i := range r.router.arms {
		if id := r.router.arms[i].ID; !r.barred(id) { // what the key may not use is not told
			names = append(names, string(id), id.Provider()+"/*")
		}
	}
	for _, list := range lists {
		if !slices.ContainsFunc(names, func(name string) bool { return catalog.ArmID(name).MatchesAny(list) }) {
			return fmt.Sprintf(": nothing that this request may use is called %.64q%s", list[0], openai.DidYouMean(list[0], names))
		}
	}
	return ""
}

// noRoom is the refusal of a request that could be served if more might be sent in a minute.
func (r *round) noRoom() error {
	f, c := upstream.Failure{Limited: true}, &r.decision.Case
	var listed []int
	if !r.aim.Auto && r.wire.Tradewind.Fallback.Or(true) {
		listed, _ = r.listed() // every name was found when the case was made
	}
	for i := range c.Candidates {
		a := &c.Candidates[i]
		waits := a.Filter == policy.RateLimited && (c.Pinned < 0 || c.Pinned == i)
		if !waits && !(slices.Contains(listed, i) && r.filter(i) == policy.Eligible) {
			continue
		}
		wait := max(time.Millisecond, r.live.Pool.Wait(a.Arm, r.context.Tokens)) // it may have passed by now
		if f.RetryAfter == 0 || wait < f.RetryAfter {
			f.RetryAfter = wait
		}
	}
	return f.Wire()
}

// filters counts the arms of a case by what filtered them.
func filters(c *policy.Case) map[policy.Filter]int {
	count := map[policy.Filter]int{}
	for i := range c.Candidates {
		count[c.Candidates[i].Filter]++
	}
	return count
}

// tally says how many arms each filter took, the most first.
func tally(count map[policy.Filter]int) string {
	filters := slices.SortedFunc(maps.Keys(count), func(a, b policy.Filter) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(filters))
	for i, f := range filters {
		parts[i] = fmt.Sprintf("%s %d", f, count[f])
	}
	return strings.Join(parts, ", ")
}
