package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Statistic is one number of a trace that has a bootstrap interval.
type Statistic int

// The statistics. Lead is the mean difference in score to the best constant of all prompts, paired prompt by prompt, at
// λ = 0 or at an operating point; RelScore and RelCost are the operating points' ratios to the same arm.
const (
	StatAIQ Statistic = iota
	StatOwn
	StatGain
	StatMatched
	StatScore
	StatLead
	StatLead100
	StatRelScore100
	StatRelCost100
	StatLead95
	StatRelScore95
	StatRelCost95
	statCount
)

// ResamplesMax bounds the number of bootstrap resamples.
const ResamplesMax = 100_000

// Estimate is a value and its 95 % bootstrap interval.
type Estimate struct{ Value, Low, High float64 }

// Contestant is a router in a bootstrap: its trace and its operating points at 100 and 95 %, which may be nil.
type Contestant struct {
	Trace     *Trace
	T100, T95 *Operating
}

// Samples holds the statistics of every contestant on all prompts and on every resample of them. The same resamples
// serve all contestants, so differences are paired.
type Samples struct {
	value [][statCount]float64
	draws [][][statCount]float64 // resample, contestant
}

// BootstrapOptions say how to resample. The zero value is 1,000 resamples, seed 0, one worker a processor.
type BootstrapOptions struct {
	Resamples int
	Seed      uint64
	Workers   int
}

// Validate checks the options.
func (o BootstrapOptions) Validate() error {
	if o.Resamples < 0 || o.Resamples > ResamplesMax || o.Workers < 0 {
		return fmt.Errorf("bench: %d resamples by %d workers are out of range (at most %d resamples)", o.Resamples, o.Workers, ResamplesMax)
	}
	return nil
}

// Bootstrap resamples prompts with replacement. The result depends on the seed and not on the number of workers.
func Bootstrap(ctx context.Context, m *Matrix, who []Contestant, o BootstrapOptions) (*Samples, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if len(who) == 0 {
		return nil, errors.New("bench: nobody to bootstrap")
	}
	if o.Resamples == 0 {
		o.Resamples = 1000
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	best := Best(m.Constants(nil))
	s := &Samples{draws: make([][][statCount]float64, o.Resamples)}
	s.value = newSampler(m, who, best).statistics(nil)
	group, ctx := errgroup.WithContext(ctx)
	for w := range o.Workers {
		group.Go(func() error {
			sampler := newSampler(m, who, best)
			weight := make([]float64, m.N())
			for b := w; b < o.Resamples; b += o.Workers {
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("bench: bootstrap: %w", err)
				}
				rng := rand.New(rand.NewPCG(o.Seed, uint64(b)))
				clear(weight)
				for range weight {
					weight[rng.IntN(len(weight))]++
				}
				s.draws[b] = sampler.statistics(weight)
			}
			return nil
		})
	}
	return s, group.Wait()
}

// Estimate is a statistic of contestant k with its interval.
func (s *Samples) Estimate(k int, stat Statistic) Estimate {
	return s.estimate(func(row [][statCount]float64) float64 { return row[k][stat] })
}

// Difference is a statistic of contestant a minus that of contestant b, with its paired interval.
func (s *Samples) Difference(a, b int, stat Statistic) Estimate {
	return s.estimate(func(row [][statCount]float64) float64 { return row[a][stat] - row[b][stat] })
}

// StandardError is the standard deviation of a statistic over the resamples.
func (s *Samples) StandardError(k int, stat Statistic) float64 {
	sum, squares, n := 0.0, 0.0, float64(len(s.draws))
	for _, row := range s.draws {
		d := row[k][stat] - s.value[k][stat]
		sum, squares = sum+d, squares+d*d
	}
	return math.Sqrt(max(0, squares-sum*sum/n) / (n - 1))
}

func (s *Samples) estimate(of func([][statCount]float64) float64) Estimate {
	e := Estimate{Value: of(s.value), Low: math.NaN(), High: math.NaN()}
	if math.IsNaN(e.Value) {
		return e
	}
	values := make([]float64, len(s.draws))
	for b, row := range s.draws {
		values[b] = of(row)
	}
	slices.Sort(values)
	e.Low, e.High = quantile(values, 0.025), quantile(values, 0.975)
	return e
}

// sampler is one worker's memory.
type sampler struct {
	scratch
	m         *Matrix
	who       []Contestant
	best      int
	constants []Point
	curve     []Point
}

func newSampler(m *Matrix, who []Contestant, best int) *sampler {
	return &sampler{m: m, who: who, best: best, constants: make([]Point, len(m.Arms)), curve: make([]Point, len(who[0].Trace.lambdas))}
}

// statistics computes all of them for prompts that count weight times each.
func (s *sampler) statistics(weight []float64) [][statCount]float64 {
	out := make([][statCount]float64, len(s.who))
	constants := s.m.constants(weight, s.constants)
	zero, base := zeroAIQ(constants), constants[s.best]
	for k, c := range s.who {
		curve := c.Trace.curve(weight, s.curve)
		measures := s.measure(constants, curve, zero)
		v := &out[k]
		v[StatAIQ], v[StatOwn], v[StatGain] = measures.AIQ, measures.Own, measures.Gain
		v[StatMatched], v[StatScore], v[StatLead] = measures.Matched[4], curve[0].Score, curve[0].Score-base.Score
		for _, p := range []struct {
			o                *Operating
			lead, score, usd Statistic
		}{{c.T100, StatLead100, StatRelScore100, StatRelCost100}, {c.T95, StatLead95, StatRelScore95, StatRelCost95}} {
			v[p.lead], v[p.score], v[p.usd] = math.NaN(), math.NaN(), math.NaN()
			if p.o != nil {
				at := p.o.mean(weight)
				v[p.lead], v[p.score], v[p.usd] = at.Score-base.Score, at.Score/base.Score, at.Cost/base.Cost
			}
		}
	}
	return out
}

// Len is the number of resamples.
func (s *Samples) Len() int { return len(s.draws) }
