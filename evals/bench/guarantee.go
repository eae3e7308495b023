package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tradewind-llm/tradewind/classifier/policy"
)

// Rung is one configuration of a router between its fallback and its own choice: another arm serves where its score is
// more than Margin above the fallback's, and Lambda is the price of a dollar.
type Rung struct{ Margin, Lambda float64 }

// Ladder is up to steps configurations of a router, from the safest to the boldest, in about equal steps of the share of
// prompts that leave the fallback: first those for which another arm looks better, by how much, then with a rising price
// of a dollar. Between two arms there is one way to leave, and the margin goes on below zero: who leaves first is then a
// question of quality alone, which is predicted better than quality for a dollar. It looks at predictions alone, so climbing it while each rung is certified needs no correction for the
// number of rungs (see policy.Certify).
func Ladder(m *Matrix, p *Predictions, fallback, steps int) []Rung {
	var margins, prices []float64
	for i := range m.IDs {
		if lead, arm := lead(m, p, i, fallback, 0); arm >= 0 && (lead > 0 || len(m.Arms) == 2) {
			margins = append(margins, lead)
		} else if price := leaves(m, p, i, fallback); price < math.Inf(1) {
			prices = append(prices, price)
		}
	}
	slices.Sort(margins)
	slices.Reverse(margins)
	slices.Sort(prices)
	var out []Rung
	for k := 1; k <= steps; k++ {
		switch n := m.N()*k/steps - 1; {
		case n < 0:
		case n < len(margins):
			out = append(out, Rung{Margin: math.Nextafter(margins[n], 0)})
		case n < len(margins)+len(prices):
			out = append(out, Rung{Lambda: prices[n-len(margins)]*(1+1e-9) + 1e-12}) // beyond all rounding
		}
	}
	return slices.Compact(out)
}

// leaves is the least price of a dollar at which a cheaper arm is worth more than the fallback, infinite where none is.
func leaves(m *Matrix, p *Predictions, i, fallback int) float64 {
	price := math.Inf(1)
	if p.CostUSD == nil {
		return price
	}
	score, cost := p.Score[i*len(m.Arms):(i+1)*len(m.Arms)], p.CostUSD[i*len(m.Arms):(i+1)*len(m.Arms)]
	for j := range score {
		if saved := cost[fallback] - cost[j]; saved > 0 && score[j] == score[j] {
			price = min(price, max(0, score[fallback]-score[j])/saved)
		}
	}
	return price
}

// lead is how far the best other arm stands above the fallback on prompt i, and that arm; −1 where there is none.
func lead(m *Matrix, p *Predictions, i, fallback int, lambda float64) (float64, int) {
	best, value, price := -1, 0.0, 0.0
	base := math.NaN()
	for j, v := range p.Score[i*len(m.Arms) : (i+1)*len(m.Arms)] {
		c := 0.0
		if p.CostUSD != nil {
			c = p.CostUSD[i*len(m.Arms)+j]
		}
		if lambda > 0 {
			v -= lambda * c
		}
		if j == fallback {
			base = v
		} else if v == v && (best < 0 || v > value || v == value && c < price) {
			best, value, price = j, v, c
		}
	}
	if base != base {
		return math.Inf(1), best
	}
	return value - base, best
}

// Choice is the arm of prompt i under the rung.
func (r Rung) Choice(m *Matrix, p *Predictions, i, fallback int) int {
	if by, arm := lead(m, p, i, fallback, r.Lambda); arm >= 0 && by > r.Margin {
		return arm
	}
	return fallback
}

func (r Rung) left(m *Matrix, p *Predictions, fallback int) (n int) {
	for i := range m.IDs {
		if r.Choice(m, p, i, fallback) != fallback {
			n++
		}
	}
	return n
}

// Guarantee is the evidence for a quality target: what a router that climbs its ladder on Rows calibration rows while each
// rung is certified does on the whole table, over many draws of such rows.
type Guarantee struct {
	// Target is the share of the fallback's mean score that is promised, Rows the number of calibration rows, Draws how
	// often they were drawn.
	Target float64
	Rows   int
	Draws  int
	// Left is the mean share of prompts that leave the fallback, Cost the mean cost as a share of the fallback's (NaN where
	// costs are unknown), Broken the share of draws in which the promise does not hold on the whole table.
	Left, Cost, Broken float64
	// Score is the mean score, and Shares the mean share of each arm.
	Score  float64
	Shares []float64
	// Hindsight is the share that leaves the fallback on the boldest rung that keeps the target, by the whole table;
	// PlugIn is Broken for a router that believes the calibration mean instead of a certificate.
	Hindsight, PlugIn float64
}

// GuaranteeOptions say what to promise. The zero value is targets of 95, 97 and 99 %, on 300, 600 and 2,000 rows, at
// a confidence of 95 %, over 300 draws with replacement, seed 0.
type GuaranteeOptions struct {
	Targets []float64
	Rows    []int
	Delta   float64
	Draws   int
	Seed    uint64
}

// The limits of GuaranteeOptions.
const (
	GuaranteeDrawsMax = 100_000
	GuaranteeRowsMax  = 100_000
	guaranteeSteps    = 20
)

// Validate checks the options.
func (o *GuaranteeOptions) Validate() error {
	if o.Draws < 0 || o.Draws > GuaranteeDrawsMax || o.Delta < 0 || o.Delta >= 1 {
		return fmt.Errorf("bench: %d draws or a delta of %v cannot be", o.Draws, o.Delta)
	}
	for _, n := range o.Rows {
		if n < 1 || n > GuaranteeRowsMax {
			return fmt.Errorf("bench: %d calibration rows are not between 1 and %d", n, GuaranteeRowsMax)
		}
	}
	for _, t := range o.Targets {
		if !(t > 0 && t <= 1) {
			return fmt.Errorf("bench: a target of %v is not in (0,1]", t)
		}
	}
	return nil
}

func (o GuaranteeOptions) withDefaults() GuaranteeOptions {
	if o.Targets == nil {
		o.Targets = []float64{0.95, 0.97, 0.99}
	}
	if o.Rows == nil {
		o.Rows = []int{300, 600, 2000}
	}
	if o.Delta == 0 {
		o.Delta = 0.05
	}
	if o.Draws == 0 {
		o.Draws = 300
	}
	return o
}

// climber is a router's ladder with what each rung does on the whole table.
type climber struct {
	m        *Matrix
	fallback int
	choices  [][]int
	mean     []Point // of each rung, and of the fallback at the end
	left     []float64
	shares   [][]float64 // of each rung and at the end of the fallback, by arm
}

// Guarantees measures every combination of targets and rows for one router. The fallback is the best constant of the
// whole table, which is also the truth that each draw is judged against.
func Guarantees(ctx context.Context, m *Matrix, p *Predictions, o GuaranteeOptions) ([]Guarantee, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	c := &climber{m: m, fallback: Best(m.Constants(nil))}
	for _, r := range Ladder(m, p, c.fallback, guaranteeSteps) {
		choice, shares := make([]int, m.N()), make([]float64, len(m.Arms))
		for i := range choice {
			choice[i] = r.Choice(m, p, i, c.fallback)
			shares[choice[i]] += 1 / float64(m.N())
		}
		c.choices, c.mean = append(c.choices, choice), append(c.mean, m.Mean(choice, nil))
		c.shares, c.left = append(c.shares, shares), append(c.left, 1-shares[c.fallback])
	}
	all := make([]float64, len(m.Arms))
	all[c.fallback] = 1
	c.mean, c.shares = append(c.mean, m.Constants(nil)[c.fallback]), append(c.shares, all)
	var out []Guarantee
	for _, n := range o.Rows {
		for _, t := range o.Targets {
			out = append(out, Guarantee{Target: t, Rows: n, Draws: o.Draws, Shares: make([]float64, len(m.Arms))})
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for k := range out {
		g.Go(func() error {
			c.measure(ctx, &out[k], &o, rand.New(rand.NewPCG(o.Seed, uint64(k))))
			return ctx.Err()
		})
	}
	return out, g.Wait()
}

// measure fills in one combination.
func (c *climber) measure(ctx context.Context, g *Guarantee, o *GuaranteeOptions, random *rand.Rand) {
	truth := g.Target*c.mean[len(c.choices)].Score - 1e-9
	for k := range c.choices {
		if c.mean[k].Score >= truth {
			g.Hindsight = max(g.Hindsight, c.left[k])
		}
	}
	rows, safe, routed := make([]int, g.Rows), make([]float64, g.Rows), make([]float64, g.Rows)
	for range o.Draws {
		if ctx.Err() != nil {
			return
		}
		for i := range rows {
			rows[i] = random.IntN(c.m.N())
			safe[i] = c.m.Score[rows[i]*len(c.m.Arms)+c.fallback]
		}
		certified, believed := -1, -1
		for k, climbing := 0, true; k < len(c.choices); k++ {
			balance := 0.0
			for n, i := range rows {
				routed[n] = c.m.Score[i*len(c.m.Arms)+c.choices[k][i]]
				balance += routed[n] - g.Target*safe[n]
			}
			if balance >= 0 {
				believed = k
			}
			if climbing = climbing && policy.Certify(safe, routed, g.Target, o.Delta); climbing {
				certified = k
			}
		}
		c.judge(g, certified, believed, truth, 1/float64(o.Draws))
	}
}

// judge adds one draw: which rung was certified, and which the mean alone would have believed in.
func (c *climber) judge(g *Guarantee, certified, believed int, truth, weight float64) {
	none := len(c.choices)
	if certified < 0 {
		certified = none
	}
	g.Score += weight * c.mean[certified].Score
	g.Cost += weight * c.mean[certified].Cost / c.mean[none].Cost
	for j, share := range c.shares[certified] {
		g.Shares[j] += weight * share
		if j != c.fallback {
			g.Left += weight * share
		}
	}
	if c.mean[certified].Score < truth {
		g.Broken += weight
	}
	if believed >= 0 && c.mean[believed].Score < truth {
		g.PlugIn += weight
	}
}
