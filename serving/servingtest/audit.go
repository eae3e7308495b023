package servingtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// audit compares four accounts of what happened: what clients got, what vendors were asked, what the log says, what the
// ledger has booked. It knows of them only what stands in this package.
func (w *world) audit(ctx context.Context) error {
	rounds, err := w.rounds(ctx)
	if err != nil {
		return err
	}
	calls := map[int][]*call{}
	for _, c := range w.vendors.calls {
		calls[c.nonce] = append(calls[c.nonce], c)
	}
	var all []error
	for _, r := range w.requests {
		logged := rounds[r.nonce]
		err := errors.Join(w.answered(r), w.spoken(r, calls[r.nonce]), w.heard(r, calls[r.nonce]), w.drained(r, calls[r.nonce], logged), w.recorded(r, calls[r.nonce], logged))
		if err != nil {
			all = append(all, fmt.Errorf("request %d (%v, status %d %s, %v): %w", r.nonce, kindNames[w.kind], r.status, r.code, r.err, err))
		}
	}
	return errors.Join(append(all, w.tried(calls), w.booked(ctx, rounds))...)
}

var kindNames = [...]string{weather: "weather", storm: "storm", oneWell: "one vendor is well", budget: "budget"}

// rounds seals the logs and reads them: each round once, by the number of its request.
func (w *world) rounds(ctx context.Context) (map[int][]datasets.Round, error) {
	out, seen := map[int][]datasets.Round{}, map[datasets.RoundID]bool{}
	for _, g := range w.gateways {
		if err := g.seal(ctx); err != nil {
			return nil, err
		}
		log, err := datasets.OpenLog(g.dir+"/log", datasets.LogOptions{FS: w.disk.Process(), ReadOnly: true})
		if err != nil {
			return nil, err
		}
		err = log.Rounds(ctx, func(rounds []datasets.Round) error {
			for _, r := range rounds {
				_, after, _ := strings.Cut(r.Decision.Prompt, nonceMark)
				text, _, _ := strings.Cut(after, endMark)
				n, err := strconv.Atoi(text)
				if err != nil || seen[r.Decision.RoundID] {
					return fmt.Errorf("round %s (%.50q) stands in the log twice, or nobody asked for it", r.Decision.RoundID, r.Decision.Prompt)
				}
				seen[r.Decision.RoundID] = true
				out[n] = append(out[n], r)
			}
			return nil
		})
		if err = errors.Join(err, log.Close()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// answered: who could be answered was, and everybody else was told.
func (w *world) answered(r *request) error {
	switch {
	case r.well(), r.left(), w.wasDown(r.from, r.to):
		return nil
	case r.err != nil:
		return errors.New("the connection broke off, and nobody had died")
	case r.broken && r.code == "timeout" && r.to.Sub(r.from) >= longest: // it may take no longer, however well its vendor is
		return nil
	case r.broken && r.whole && r.code != "":
		if w.kind == oneWell || w.kind == budget || r.last {
			return errors.New("the answer broke off, and no vendor did that")
		}
		return nil
	case r.code == "":
		return errors.New("it failed without a reason")
	case w.kind == budget && r.code == "insufficient_quota":
		return nil
	case r.last:
		return errors.New("all has been well for minutes, and there is no answer")
	case w.kind == budget, w.kind == oneWell && !r.single:
		return errors.New("a vendor was well, and there is no answer")
	}
	return nil
}

// spoken: what a client read was said in one call, in order, and where it was told that this is all, it is.
func (w *world) spoken(r *request, calls []*call) error {
	if r.status != 200 || r.text == "" {
		return nil
	}
	pieces := strings.Split(strings.TrimSuffix(r.text, ";"), ";")
	first, _, _ := strings.Cut(pieces[0], ":")
	for i, p := range pieces {
		if want := first + ":" + strconv.Itoa(i); p != want && i < len(pieces)-1 || !strings.HasPrefix(want, p) {
			return fmt.Errorf("piece %d is %q, want %q: no one call said that", i, p, want)
		}
	}
	k := slices.IndexFunc(calls, func(c *call) bool { return strconv.Itoa(c.number) == first })
	switch {
	case k < 0 && strings.Contains(r.text, ":"):
		return fmt.Errorf("call %s was made for another request", first)
	case !r.well():
		return nil
	case !calls[k].all:
		return errors.New("the client was told that this is all, and the vendor had not ended")
	case r.model != string(calls[k].arm):
		return fmt.Errorf("%s answered, and the client was told %s", calls[k].arm, r.model)
	}
	return nil
}

// heard: a client that goes is not talked to behind its back, but where its vendor bills to the end.
func (w *world) heard(r *request, calls []*call) error {
	if !r.left() || w.wasDown(r.from, r.to) {
		return nil
	}
	for _, c := range calls {
		if !c.all && !w.toTheEnd[c.arm.Provider()] && (c.gone.IsZero() || c.gone.Sub(r.to) > cancelWithin) {
			return fmt.Errorf("the client left at %v, and call %d to %s heard of it at %v", r.to.Sub(w.began), c.number, c.arm, c.gone.Sub(w.began))
		}
	}
	return nil
}

// drained: a vendor that bills to the end is heard to the end, and what is booked is its bill, though its client has gone.
func (w *world) drained(r *request, calls []*call, logged []datasets.Round) error {
	if !r.left() || len(calls) == 0 || len(logged) != 1 || w.wasDown(r.from, w.over(r)) {
		return nil
	}
	c := calls[len(calls)-1]
	switch {
	case !w.toTheEnd[c.arm.Provider()] || !c.well || !c.at.Before(r.to) || !c.gone.Before(r.from.Add(longest)):
		return nil
	case !c.all:
		return fmt.Errorf("call %d to %s, which bills to the end, was cut short at %v; the client left at %v", c.number, c.arm, c.gone.Sub(w.began), r.to.Sub(w.began))
	}
	return w.priced(&logged[0].Outcome, calls)
}

// over is when a request has ended at the latest, whoever has left.
func (w *world) over(r *request) time.Time {
	if r.left() {
		return r.from.Add(longest)
	}
	return r.to
}

// recorded: what a vendor was asked is in the log, once, with its end; so is what the client was told.
func (w *world) recorded(r *request, calls []*call, logged []datasets.Round) error {
	if len(calls) > 0 && len(logged) != 1 {
		return fmt.Errorf("vendors were asked %d times, and the log has %d rounds", len(calls), len(logged))
	}
	if r.round != "" && r.status == 200 && (len(logged) != 1 || string(logged[0].Decision.RoundID) != r.round) {
		return fmt.Errorf("the client was told of round %s, and the log has %d", r.round, len(logged))
	}
	if len(logged) == 0 {
		return nil
	}
	d, o := &logged[0].Decision, &logged[0].Outcome
	i := slices.IndexFunc(d.Case.Candidates, func(a policy.Candidate) bool { return a.Arm == d.Action })
	if i < 0 || d.Propensities[i] != d.Propensity || !(d.Propensity > 0) {
		return fmt.Errorf("the action %s has propensity %v of %v", d.Action, d.Propensity, d.Propensities)
	}
	parts := catalog.Nanodollars(0)
	for _, a := range o.Attempts {
		parts += a.Cost
	}
	switch {
	case o.Status == datasets.Unknown:
		if !w.wasDown(r.from, w.over(r)) || o.Cost != d.Hold {
			return fmt.Errorf("it is unknown at %s of a hold of %s", o.Cost, d.Hold)
		}
		return nil
	case parts != o.Cost || o.Cost > d.Hold && w.kind == budget:
		return fmt.Errorf("it cost %s of a hold of %s, its attempts %s", o.Cost, d.Hold, parts)
	case len(o.Attempts) != len(calls) && !r.left() && !w.wasDown(r.from, r.to):
		return fmt.Errorf("the log has %d attempts, and vendors were asked %d times", len(o.Attempts), len(calls))
	case r.well() && (o.Status != datasets.Completed || string(o.Served) != r.model):
		return fmt.Errorf("the client has the answer of %s, the log says %s by %s", r.model, o.Status, o.Served)
	case r.well():
		return w.priced(o, calls)
	case r.broken && o.Status == datasets.Completed:
		return errors.New("the client was told of an error, and the log says that it was completed")
	}
	return nil
}

// priced computes the answer's price anew, from what its vendor said of it.
func (w *world) priced(o *datasets.Outcome, calls []*call) error {
	c := calls[len(calls)-1]
	rates := w.arm(c.arm).Prices.Rates
	want := (c.input*int64(rates.Input) + c.output*int64(rates.Output) + 999) / 1000
	if got := o.Attempts[len(o.Attempts)-1].Cost; int64(got) != want {
		return fmt.Errorf("%d tokens in and %d out of %s cost %d, want %d", c.input, c.output, c.arm, got, want)
	}
	return nil
}

// tried: no request is tried more than three times, and in a storm there are few retries.
func (w *world) tried(calls map[int][]*call) error {
	all := 0
	for n, c := range calls {
		if all += len(c); len(c) > 3 {
			return fmt.Errorf("request %d was tried %d times", n, len(c))
		}
	}
	// A fifth of a retry is earned by a request; ten are there at first, every arm may fail five times before it is ejected
	// and once with each client that was under way, and then it is probed now and then.
	n := len(w.requests)
	if most := n + n/5 + 10 + len(w.arms)*(5+6+4); w.kind == storm && all > most {
		return fmt.Errorf("%d requests made %d calls in a storm, want at most %d", n, all, most)
	}
	return nil
}

// booked: the ledger has what the log says, holds nothing, and no key spent more than it may.
func (w *world) booked(ctx context.Context, rounds map[int][]datasets.Round) error {
	spent := map[string]catalog.Nanodollars{}
	for _, logged := range rounds {
		for _, r := range logged {
			spent[r.Decision.KeyID] += r.Outcome.Cost
		}
	}
	g := w.gateways[0]
	for i, p := range g.auth.Principals() {
		b, err := g.books.Balance(ctx, ledger.Account("key", p.KeyID, ledger.Total))
		if err != nil {
			return err
		}
		written := catalog.Nanodollars(0)
		for _, g := range w.gateways {
			sums := g.sums.Sums()
			written += sums.Of(ledger.Account("key", p.KeyID, ledger.Total)).Settled
		}
		if b.Held != 0 || b.Settled != spent[p.KeyID] || written != spent[p.KeyID] {
			return fmt.Errorf("key %d: %s are settled, %s held and %s written down, and its rounds cost %s", i, b.Settled, b.Held, written, spent[p.KeyID])
		}
		for _, k := range p.Budgets {
			if spent[p.KeyID] > k.Amount {
				return fmt.Errorf("key %d has spent %s of %s", i, spent[p.KeyID], k.Amount)
			}
		}
	}
	if open := g.books.Open(); open["key"] != 0 {
		return fmt.Errorf("%d holds are open at rest", open["key"])
	}
	return nil
}
