package evals

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// AvailabilityGoal is what the field promises.
const AvailabilityGoal = 0.999

// Availability says how often requests were answered, and what failing over had to do with it. Rounds that their client
// ended, or whose end nobody knows, and those that the vendor refused for what was asked, count for nothing.
type Availability struct {
	// First were answered at the first attempt, Rescued at a later one, Failed at none.
	First   int `json:"first"`
	Rescued int `json:"rescued"`
	Failed  int `json:"failed"`
	// Censored rounds say nothing.
	Censored int `json:"censored"`
	// Answered is the share of rounds that were answered, and Alone what it would have been without a second attempt, with
	// their 95 % intervals (Wilson 1927).
	Answered Interval `json:"answered"`
	Alone    Interval `json:"alone"`
	// Arms and Providers are those that were tried, the most often tried first.
	Arms      []AttemptsRow `json:"arms"`
	Providers []AttemptsRow `json:"providers"`
}

// AttemptsRow is how attempts at an arm or a provider ended.
type AttemptsRow struct {
	Name     string         `json:"name"`
	Attempts int            `json:"attempts"`
	OK       int            `json:"ok"`
	Share    Interval       `json:"share"`
	Failures map[string]int `json:"failures,omitempty"`
}

// clientFaults are the classes of failures that speak against the request.
var clientFaults = [...]string{"bad_request", "context_length", "content_policy", "unsayable"}

// MeasureAvailability reads the rounds of a log.
func MeasureAvailability(ctx context.Context, l *datasets.Log) (*Availability, error) {
	a := &Availability{}
	arms, providers := map[catalog.ArmID]*AttemptsRow{}, map[string]*AttemptsRow{}
	err := l.Rounds(ctx, func(batch []datasets.Round) error {
		for i := range batch {
			a.count(&batch[i].Outcome, arms, providers)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("evals: %w", err)
	}
	all := a.First + a.Rescued + a.Failed
	a.Answered, a.Alone = wilson(a.First+a.Rescued, all), wilson(a.First, all)
	a.Arms, a.Providers = rowsOf(arms), rowsOf(providers)
	return a, nil
}

func (a *Availability) count(o *datasets.Outcome, arms map[catalog.ArmID]*AttemptsRow, providers map[string]*AttemptsRow) {
	last, ended := "", 0
	for i := range o.Attempts {
		at := &o.Attempts[i]
		last = at.ErrorClass
		if at.Outcome == "cancelled" { // outrun by a call beside it: it did not fail
			continue
		}
		if ended++; slices.Contains(clientFaults[:], at.ErrorClass) {
			continue
		}
		rowFor(arms, at.Arm, string(at.Arm)).add(at)
		rowFor(providers, at.Arm.Provider(), at.Arm.Provider()).add(at)
	}
	switch {
	case o.Status == datasets.Completed && ended == 1:
		a.First++
	case o.Status == datasets.Completed:
		a.Rescued++
	case o.Status == datasets.Failed && !slices.Contains(clientFaults[:], last):
		a.Failed++
	default:
		a.Censored++
	}
}

func rowFor[K comparable](rows map[K]*AttemptsRow, key K, name string) *AttemptsRow {
	r := rows[key]
	if r == nil {
		r = &AttemptsRow{Name: name, Failures: map[string]int{}}
		rows[key] = r
	}
	return r
}

func (r *AttemptsRow) add(a *datasets.Attempt) {
	r.Attempts++
	if a.Outcome == "ok" {
		r.OK++
	} else {
		r.Failures[a.ErrorClass]++
	}
}

func rowsOf[K comparable](rows map[K]*AttemptsRow) []AttemptsRow {
	var out []AttemptsRow
	for _, r := range rows {
		r.Share = wilson(r.OK, r.Attempts)
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b AttemptsRow) int {
		return cmp.Or(cmp.Compare(b.Attempts, a.Attempts), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// wilson is a share with its 95 % interval.
func wilson(k, n int) Interval {
	if n == 0 {
		nan := Num(math.NaN())
		return Interval{Value: nan, Low: nan, High: nan}
	}
	const z = 1.96
	p, m := float64(k)/float64(n), float64(n)
	center, half := (p+z*z/(2*m))/(1+z*z/m), z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))/(1+z*z/m)
	return Interval{Value: Num(p), Low: Num(max(center-half, 0)), High: Num(min(center+half, 1))}
}

// WriteText writes it for a terminal, the sentence first.
func (a *Availability) WriteText(w io.Writer) error {
	var b strings.Builder
	n := a.First + a.Rescued + a.Failed
	if n == 0 {
		return flush(w, fmt.Sprintf("No round of the log says anything about availability (%d are censored).\n", a.Censored))
	}
	verdict := "too few to tell from" // the goal lies in the interval
	switch {
	case float64(a.Answered.High) < AvailabilityGoal:
		verdict = "short of"
	case float64(a.Answered.Low) >= AvailabilityGoal:
		verdict = "above"
	}
	fmt.Fprintf(&b, "%s of %d requests were answered [%s, %s]: %s the goal of %.1f %%. Without a second attempt it would be %s.\n",
		finePercent(a.Answered.Value), n, finePercent(a.Answered.Low), finePercent(a.Answered.High), verdict, 100*AvailabilityGoal, finePercent(a.Alone.Value))
	fmt.Fprintf(&b, "%d at the first attempt, %d after failover, %d failed; %d are censored (client gone, end unknown, or refused for what was asked).\n",
		a.First, a.Rescued, a.Failed, a.Censored)
	for _, t := range []struct {
		name string
		rows []AttemptsRow
	}{{"model", a.Arms}, {"provider", a.Providers}} {
		g := grid{Left: 1, Head: []string{t.name, "attempts", "ok", "95 % interval", "failures"}}
		for _, r := range t.rows {
			g.Rows = append(g.Rows, []string{r.Name, fmt.Sprint(r.Attempts), finePercent(r.Share.Value),
				finePercent(r.Share.Low) + " to " + finePercent(r.Share.High), r.failures()})
		}
		b.WriteByte('\n')
		g.text(&b)
	}
	return flush(w, b.String())
}

// finePercent has the decimals that nines need.
func finePercent(v Num) string { return fmt.Sprintf("%.3f %%", 100*float64(v)) }

func (r *AttemptsRow) failures() string {
	var parts []string
	for class, n := range r.Failures {
		parts = append(parts, fmt.Sprintf("%d %s", n, class))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
