package speed

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Figure is one row of a report: what the bare proxy and the gateway take, and how many times the one is the other.
type Figure struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"`
	// Bare and Gateway are medians over the rounds.
	Bare    float64 `json:"bare"`
	Gateway float64 `json:"gateway"`
	// Ratio is the median of the ratios of the rounds, Low and High the smallest and the largest. They are 0 where there is none:
	// noise may make a wait without a proxy longer than one with.
	Ratio float64 `json:"ratio,omitzero"`
	Low   float64 `json:"ratio_low,omitzero"`
	High  float64 `json:"ratio_high,omitzero"`
	// Goal bounds Ratio, or Gateway where Absolute is set; AtLeast says that it does so from below.
	Goal     float64 `json:"goal"`
	Absolute bool    `json:"goal_absolute,omitempty"`
	AtLeast  bool    `json:"goal_at_least,omitempty"`
	// Verdict says whether the goal is met.
	Verdict Verdict `json:"verdict"`
}

// Verdict is what a figure says of its goal.
type Verdict string

// The verdicts. Unknown is for a figure without a ratio.
const (
	Met     Verdict = "met"
	Missed  Verdict = "missed"
	Unknown Verdict = "unknown"
)

// Report is what a run found.
type Report struct {
	Machine string `json:"machine"`
	Rounds  int    `json:"rounds"`
	// Answers are those that were whole and true, of the gateway and of the bare proxy.
	Answers int      `json:"answers"`
	Lost    int      `json:"lost"`
	Example string   `json:"lost_example,omitempty"`
	Figures []Figure `json:"figures"`
}

// The goals: everything switched on, against a bare proxy in the same run.
const (
	goalCPUSmall = 1.8
	goalCPULarge = 1.6
	goalRate     = .6
	goalAdded    = 1.4
	goalFirst    = 1.5
	goalChunk    = 1.15
	goalChunkCPU = 1.3
	goalMemory   = 4
	goalStartMS  = 100
)

// report makes the rows of what was measured.
func (r *run) report(targets []target, rounds int) (*Report, error) {
	out := &Report{Machine: r.machine(), Rounds: rounds, Answers: r.answers[BarePart] + r.answers[GatewayPart], Lost: r.lost[BarePart] + r.lost[GatewayPart]}
	if r.why != nil {
		out.Example = r.why.Error()
	}
	perAnswer := func(s *sample) float64 { return share(micros(s.cpu), float64(s.answers)) }
	all := []Figure{
		r.figure(closedSmall, perAnswer, Figure{Name: "CPU a request, 0.7 KB prompt", Unit: "µs", Goal: goalCPUSmall}),
		r.figure(closedLarge, perAnswer, Figure{Name: "CPU a request, 16 KB prompt", Unit: "µs", Goal: goalCPULarge}),
		r.figure(closedSmall, func(s *sample) float64 { return share(float64(s.answers), s.elapsed.Seconds()) },
			Figure{Name: "requests a second, 64 at once", Goal: goalRate, AtLeast: true}),
		r.added(fixedRate, func(s *sample) []time.Duration { return s.whole }, Figure{Name: "added to a request, p50, at 500/s", Unit: "µs", Goal: goalAdded}),
		r.added(slowStreams, func(s *sample) []time.Duration { return s.first }, Figure{Name: "added to the first token, p50", Unit: "µs", Goal: goalFirst}),
		r.added(slowStreams, func(s *sample) []time.Duration { return s.chunk }, Figure{Name: "added to a chunk, p50", Unit: "µs", Goal: goalChunk}),
		r.figure(fastStreams, func(s *sample) float64 { return share(micros(s.cpu), float64(s.chunks)) }, Figure{Name: "CPU a chunk", Unit: "µs", Goal: goalChunkCPU}),
	}
	memory := Figure{Name: "memory, peak of the whole run", Unit: "MB", Goal: goalMemory}
	for _, t := range targets {
		u, err := t.used()
		if err != nil {
			return nil, fmt.Errorf("speed: the %s has ended: %w", t.part, err)
		}
		switch t.part {
		case BarePart:
			memory.Bare = float64(u.Peak) / 1e6
		case GatewayPart:
			memory.Gateway = float64(u.Peak) / 1e6
		}
	}
	start := Figure{Name: "start to the first answer", Unit: "ms", Goal: goalStartMS, Absolute: true}
	start.Bare, start.Gateway = millis(r.starts[BarePart]), millis(r.starts[GatewayPart])
	lost := Figure{Name: "answers lost or short", Bare: float64(r.lost[BarePart]), Gateway: float64(r.lost[GatewayPart]), Absolute: true}
	for _, f := range append(all, memory.once(), start.once(), lost.once()) {
		f.judge()
		out.Figures = append(out.Figures, f)
	}
	return out, nil
}

// figure fills in a figure that every round gives for each of the two.
func (r *run) figure(scenario int, of func(*sample) float64, f Figure) Figure {
	return r.paired(f, func(round int) (bare, gateway float64) {
		return of(&r.results[BarePart][scenario][round]), of(&r.results[GatewayPart][scenario][round])
	})
}

// added is figure for a wait: what is longer than without a proxy.
func (r *run) added(scenario int, of func(*sample) []time.Duration, f Figure) Figure {
	p50 := func(part Part, round int) float64 { return micros(median(of(&r.results[part][scenario][round]))) }
	return r.paired(f, func(round int) (bare, gateway float64) {
		direct := p50(VendorPart, round)
		return p50(BarePart, round) - direct, p50(GatewayPart, round) - direct
	})
}

func (r *run) paired(f Figure, of func(round int) (bare, gateway float64)) Figure {
	var bares, gateways, ratios []float64
	for round := range r.results[BarePart][0] {
		b, g := of(round)
		bares, gateways = append(bares, b), append(gateways, g)
		if b > 0 && g > 0 { // no ratio of what has none, and none of a measurement without an answer
			ratios = append(ratios, g/b)
		}
	}
	f.Bare, f.Gateway = middle(bares), middle(gateways)
	if len(ratios) > 0 {
		f.Ratio, f.Low, f.High = middle(ratios), slices.Min(ratios), slices.Max(ratios)
	}
	return f
}

// once gives a figure that a run has only one of its ratio.
func (f Figure) once() Figure {
	if f.Bare > 0 {
		f.Ratio = f.Gateway / f.Bare
		f.Low, f.High = f.Ratio, f.Ratio
	}
	return f
}

func (f *Figure) judge() {
	value := f.Ratio
	if f.Absolute {
		value = f.Gateway
	}
	switch {
	case !f.Absolute && f.Ratio == 0:
		f.Verdict = Unknown
	case f.AtLeast && value >= f.Goal, !f.AtLeast && value <= f.Goal:
		f.Verdict = Met
	default:
		f.Verdict = Missed
	}
}

// WriteText prints the report as a table.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s. Median of %d rounds, their range in brackets.\n\n", r.Machine, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\tbare proxy\ttradewind\tratio\t\tgoal\t")
	for i := range r.Figures {
		f := &r.Figures[i]
		ratio, span, goal, unit := "–", "", fmt.Sprintf("≤ %g", f.Goal), f.Unit
		if f.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		if f.Low != f.High {
			span = fmt.Sprintf("(%.2f–%.2f)", f.Low, f.High)
		}
		if f.AtLeast {
			goal = fmt.Sprintf("≥ %g", f.Goal)
		}
		if f.Absolute && unit != "" {
			goal += " " + unit
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, f.in(f.Bare), f.in(f.Gateway), ratio, span, goal, f.Verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d answers, each read to its end and compared with what the vendor said; %d lost or short.\n", r.Answers, r.Lost)
	if err == nil && r.Example != "" {
		_, err = fmt.Fprintf(w, "The first that was lost: %s\n", r.Example)
	}
	return err
}

// in is a value with its unit.
func (f *Figure) in(v float64) string {
	text := fmt.Sprintf("%.1f", v)
	if v >= 100 || f.Unit == "" {
		text = fmt.Sprintf("%.0f", v)
	}
	if f.Unit != "" {
		text += " " + f.Unit
	}
	return text
}

// share is a part of what was counted; 0 where nothing was.
func share(of, n float64) float64 {
	if n == 0 {
		return 0
	}
	return of / n
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func millis(all []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return float64(median(sorted)) / float64(time.Millisecond)
}

// middle is the median.
func middle(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
