package trainer

import (
	"context"
	"slices"
)

const (
	// taughtMax bounds the clusters of a log: its tables have one score a prompt, and a whole vector of registers.
	taughtMax = 48
	// taughtRounds is how often prompts move; between two moves the classifier takes taughtSteps steps.
	taughtRounds = 8
	taughtSteps  = 3
	taughtLambda = 1
)

// teach makes clusters of prompts that look alike into clusters that a linear classifier can tell apart. It learns to tell
// them apart, moves every prompt to the one that it is taken for, and learns again. The classifier is what serves.
func (s *taskSet) teach(ctx context.Context, d *design) error {
	n, k := d.rows(), len(s.names)
	b := &block{narrow: d.cols, class: s.class, target: make([]float32, n*k), steps: taughtSteps}
	for range k {
		b.add(linear, 0, 1, taughtLambda)
	}
	rows := all(n)
	for range taughtRounds {
		clear(b.target)
		clear(b.offset)
		for i := range rows {
			row := s.posterior[i*k : (i+1)*k]
			c := slices.Index(row, slices.Max(row))
			b.target[i*k+c] = 1
			b.offset[c] += 1 / float64(n)
		}
		var err error
		if b.start, err = solve(ctx, d, rows, b); err != nil {
			return err
		}
		s.posterior = d.product(b.start, k)
		for at := range s.posterior {
			s.posterior[at] += float32(b.offset[at%k])
		}
	}
	s.centroids, s.bias = b.start, b.offset
	s.soften()
	return nil
}
