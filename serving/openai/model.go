package openai

import (
	"fmt"
	"sort"
	"strings"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Strategy is what a router optimizes for.
type Strategy string

// The strategies; the empty one means that nobody chose.
const (
	StrategyNone         Strategy = ""
	StrategyCost         Strategy = "cost"
	StrategyLatency      Strategy = "latency"
	StrategyBalanced     Strategy = "balanced"
	StrategyAvailability Strategy = "availability"
	StrategyQuality      Strategy = "quality"
)

// Known reports whether s is one of the five strategies.
func (s Strategy) Known() bool {
	switch s {
	case StrategyCost, StrategyLatency, StrategyBalanced, StrategyAvailability, StrategyQuality:
		return true
	}
	return false
}

// Target is what a model value asks for.
type Target struct {
	// Auto says that the router chooses. Group is the configured group it chooses in, or "".
	Auto  bool
	Group string
	// Strategy is the suffix of an auto name, or the strategy that OpenRouter's :floor and :nitro stand for. Throughput says
	// that it was :nitro.
	Strategy   Strategy
	Throughput bool
	// Name is a concrete model as sent. It is looked up first as it stands ("llama3:8b", "…-v1:0"); only where that
	// fails and Base is set is Base looked up, under Strategy.
	Name string
	Base string
}

// ParseModel reads a model value. It never fails: what is no auto name is a concrete name, and whether that exists is
// for the catalog to say. An auto name with an unknown strategy is such a name too, and so will not be found.
func ParseModel(model string) Target {
	head, suffix, hasSuffix := strings.Cut(model, ":")
	if rest, ok := strings.CutPrefix(head, "auto"); ok && (rest == "" || len(rest) > 1 && rest[0] == '/') {
		t := Target{Auto: true, Group: strings.TrimPrefix(rest, "/")}
		if !hasSuffix {
			return t
		}
		if t.Strategy = suffixStrategy(suffix); t.Strategy == StrategyNone {
			t.Strategy = Strategy(suffix)
		}
		t.Throughput = suffix == nitro
		if t.Strategy.Known() {
			return t
		}
	}
	t := Target{Name: model}
	if i := strings.LastIndexByte(model, ':'); i > 0 {
		if t.Strategy = suffixStrategy(model[i+1:]); t.Strategy != StrategyNone {
			t.Base, t.Throughput = model[:i], model[i+1:] == nitro
		}
	}
	return t
}

// nitro is OpenRouter's suffix for the most tokens per second.
const nitro = "nitro"

// suffixStrategy maps OpenRouter's suffixes.
func suffixStrategy(suffix string) Strategy {
	switch suffix {
	case nitro:
		return StrategyLatency
	case "floor":
		return StrategyCost
	}
	return StrategyNone
}

// Strategy is the strategy that the request asks for: body, then header, then the model's suffix, then OpenRouter's
// provider.sort. It is StrategyNone where the key or the configuration must decide.
func (r *Request) Strategy() Strategy {
	for _, s := range [...]Strategy{r.Tradewind.Strategy, r.Target.Strategy, r.strategy} {
		if s != StrategyNone {
			return s
		}
	}
	return StrategyNone
}

// Throughput says that the strategy, latency, is asked for the sake of tokens per second: of a stream that is the time to its
// end and not to its beginning.
func (r *Request) Throughput() bool {
	switch {
	case r.Tradewind.Strategy != StrategyNone:
		return false
	case r.Target.Strategy != StrategyNone:
		return r.Target.Throughput
	}
	return r.throughput
}

// DidYouMean is the end of a message that asks for the nearest of the names, or nothing where none is near.
func DidYouMean(name string, names []string) string {
	if near := Nearest(name, names, 1); len(near) > 0 {
		return fmt.Sprintf("; did you mean %q?", near[0])
	}
	return ""
}

// Nearest returns at most n of the names, nearest to name in edits first; equal distances keep their order. Names that
// have less than half in common are left out.
func Nearest(name string, names []string, n int) []string {
	if len(name) > NameMax {
		name = name[:NameMax]
	}
	type scored struct {
		name string
		d    int
	}
	near := make([]scored, 0, len(names))
	for _, c := range names {
		if d := catalog.Edits(name, c); len(c) <= NameMax && 2*d <= max(len(name), len(c)) {
			near = append(near, scored{c, d})
		}
	}
	sort.SliceStable(near, func(i, j int) bool { return near[i].d < near[j].d })
	out := make([]string, 0, n)
	for _, c := range near[:min(n, len(near))] {
		out = append(out, c.name)
	}
	return out
}
