package trainer

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// kind is the loss of an output.
type kind uint8

const (
	multinomial kind = iota // one of several classes: the outputs of this kind are one model and stand first
	logistic                // a score in [0,1]: cross entropy, fractions are soft labels
	linear                  // squared error
)

// block is a set of linear outputs that are fitted together: separate problems that share every pass over the matrix.
// Each minimizes Σ loss(offset + x·w, target) + ½λ|w|².
type block struct {
	kinds []kind
	// offset is an output's fixed intercept, curvature the mean second derivative of its loss at w = 0.
	offset, curvature, lambda []float64
	// class is the class of a row, −1 for none; target is rows × outputs, NaN where nothing was observed.
	class  []int32
	target []float32
	// weight has the cells of target: what an observation counts, 1 where nil. Classes all count 1.
	weight []float32
	// base has the cells of target: what an output says before anything is fitted, 0 where nil.
	base []float32
	// shared says that the logistic outputs may have something in common: each is w_k = u + v_k, and the ridge is on u
	// and on every v_k alike. They step together.
	shared bool
	// narrow columns, from this one on, serve linear outputs only.
	narrow int
	// placed is the number of first outputs whose weights come from elsewhere.
	placed int
	// start holds the weights to begin at, cols × outputs, 0 where nil; steps is how many to take, stepsMax where 0.
	start []float32
	steps int
}

const (
	stepsMax  = 30
	tolerance = 1e-2 // of the preconditioned gradient's norm, against that at w = 0
	// scatterMax bounds the copies of the gradient that are summed at once.
	scatterMax = 8
)

// solver runs nonlinear conjugate gradients (Polak–Ribière, restarted when it is negative) with a diagonal
// preconditioner on all outputs of a block in step. The products x·direction are kept, so the exact line search by
// Newton's method touches no text: a step costs one pass over the matrix forwards and one backwards.
type solver struct {
	d    *design
	rows []int
	b    *block
	o    int
	// w, the gradient, the gradient before and the direction are cols × outputs.
	w, grad, last, dir []float32
	// z = offset + x·w, along = x·dir and the residual are rows × outputs.
	z, along, res []float32
	square        []float64 // Σ x² of a column
	group         []int     // the first output that steps together with this one
	power, begin  []float64 // Σ gradient · preconditioned gradient of a group, now and at w = 0
	parts         [][]float32
}

// solve returns the weights, cols × outputs, fitted on the given rows of the design; class and target are by position
// in rows.
func solve(ctx context.Context, d *design, rows []int, b *block) ([]float32, error) {
	s := newSolver(d, rows, b)
	for step := range cmp.Or(b.steps, stepsMax) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.residuals()
		s.gradient()
		if s.direction(step == 0) {
			break
		}
		s.product()
		s.move()
	}
	return s.w, nil
}

func newSolver(d *design, rows []int, b *block) *solver {
	o := len(b.kinds)
	cells, outputs := d.cols*o, len(rows)*o
	s := &solver{
		d: d, rows: rows, b: b, o: o,
		w: make([]float32, cells), grad: make([]float32, cells), last: make([]float32, cells), dir: make([]float32, cells),
		z: make([]float32, outputs), along: make([]float32, outputs), res: make([]float32, outputs),
		square: make([]float64, d.cols), group: make([]int, o), power: make([]float64, o), begin: make([]float64, o),
	}
	for i, r := range rows {
		for k := d.start[r]; k < d.start[r+1]; k++ {
			s.square[d.col[k]] += float64(d.val[k]) * float64(d.val[k])
		}
		for k, v := range b.offset {
			s.z[i*o+k] = float32(v)
		}
		if b.base != nil {
			for k, v := range b.base[i*o : (i+1)*o] {
				s.z[i*o+k] += v
			}
		}
	}
	for k, kind := range b.kinds {
		if kind != multinomial {
			s.group[k] = k
		}
		if kind == logistic && b.shared {
			s.group[k] = slices.Index(b.kinds, logistic)
		}
	}
	if b.start != nil {
		copy(s.w, b.start)
		said := d.product(b.start, o)
		for i, r := range rows {
			axpy(1, said[r*o:(r+1)*o], s.z[i*o:(i+1)*o])
		}
	}
	for range max(1, min(scatterMax, len(rows)/chunkRows)) {
		s.parts = append(s.parts, make([]float32, cells))
	}
	return s
}

// residuals sets res to the derivative of every row's loss with respect to its outputs.
func (s *solver) residuals() {
	each(len(s.rows), func(from, to int) {
		p := make([]float64, s.o)
		for i := from; i < to; i++ {
			z, res := s.z[i*s.o:(i+1)*s.o], s.res[i*s.o:(i+1)*s.o]
			s.predict(p, z, nil, nil)
			for k := range res {
				res[k] = float32(s.slope(i, k, p[k]))
			}
		}
	})
}

// predict sets p to the predictions at z + a·along.
func (s *solver) predict(p []float64, z, along []float32, a []float64) {
	top, total, classes := math.Inf(-1), 0.0, 0
	for k, v := range z {
		p[k] = float64(v)
		if along != nil {
			p[k] += a[k] * float64(along[k])
		}
		switch s.b.kinds[k] {
		case multinomial:
			top = max(top, p[k])
			classes++
		case logistic:
			p[k] = 1 / (1 + math.Exp(-p[k]))
		}
	}
	for k := range classes {
		p[k] = math.Exp(p[k] - top)
		total += p[k]
	}
	for k := range classes {
		p[k] /= total
	}
}

// slope is the derivative of the loss of row i with respect to output k, which predicts p; 0 where nothing was seen.
func (s *solver) slope(i, k int, p float64) float64 {
	if s.b.kinds[k] == multinomial {
		switch s.b.class[i] {
		case -1:
			return 0
		case int32(k):
			return p - 1
		}
		return p
	}
	if t := s.b.target[i*s.o+k]; t == t {
		return s.b.weigh(i*s.o+k) * (p - float64(t))
	}
	return 0
}

func (b *block) weigh(at int) float64 {
	if b.weight == nil {
		return 1
	}
	return float64(b.weight[at])
}

// common is what n outputs that share have in common in a column, by the sum of their weights: the u at which the ridge
// on u and on what is left of each is least.
func common(sum float64, n int) float64 { return sum / float64(1+n) }

// free is the part of every logistic output's weight in a column that the ridge on it does not count.
func (s *solver) free(column []float32) float64 {
	sum, n := 0.0, 0
	if s.b.shared {
		for k, v := range column {
			if s.b.kinds[k] == logistic {
				sum, n = sum+float64(v), n+1
			}
		}
	}
	return common(sum, n)
}

// drawn is the part that it counts of output k's weight v.
func (s *solver) drawn(k int, v float32, free float64) float64 {
	if s.b.kinds[k] == logistic {
		return float64(v) - free
	}
	return float64(v)
}

// gradient sets grad to Xᵀ·res + λ·w, w without what is free. Each part gathers a fixed share of the rows, and the parts
// are added in order.
func (s *solver) gradient() {
	s.grad, s.last = s.last, s.grad
	share := (len(s.rows) + len(s.parts) - 1) / len(s.parts)
	parallel(len(s.parts), func(p int) {
		part := s.parts[p]
		clear(part)
		for i := p * share; i < min(len(s.rows), (p+1)*share); i++ {
			r := s.rows[i]
			res := s.res[i*s.o : (i+1)*s.o]
			for k := s.d.start[r]; k < s.d.start[r+1]; k++ {
				at := int(s.d.col[k]) * s.o
				axpy(s.d.val[k], res, part[at:at+s.o])
			}
		}
	})
	each(s.d.cols, func(from, to int) {
		for c := from; c < to; c++ {
			free := s.free(s.w[c*s.o : (c+1)*s.o])
			for k := range s.o {
				at := c*s.o + k
				g := s.b.lambda[k] * s.drawn(k, s.w[at], free)
				for _, part := range s.parts {
					g += float64(part[at])
				}
				if c >= s.b.narrow && s.b.kinds[k] != linear {
					g = 0
				}
				s.grad[at] = float32(g)
			}
		}
	})
}

// direction sets dir to the next search direction and reports whether all groups have converged.
func (s *solver) direction(first bool) bool {
	o := s.o
	sums := sum(s.d.cols, 2*o, func(acc []float64, from, to int) {
		for c := from; c < to; c++ {
			for k := range o {
				at := c*o + k
				g := float64(s.grad[at])
				scaled := g / s.scale(c, k)
				acc[k] += g * scaled
				acc[o+k] += float64(s.last[at]) * scaled
			}
		}
	})
	power, cross := s.grouped(sums[:o]), s.grouped(sums[o:])
	beta, frozen := make([]float64, o), make([]bool, o)
	late, active := 0, 0
	if first {
		copy(s.begin, power)
	}
	for k := range o {
		frozen[k] = power[k] <= tolerance*tolerance*s.begin[k]
		if !frozen[k] {
			active++
		}
		if power[k] > 4*tolerance*tolerance*s.begin[k] {
			late++
		}
		if !first && s.power[k] > 0 {
			beta[k] = max(0, (power[k]-cross[k])/s.power[k])
		}
	}
	copy(s.power, power)
	each(s.d.cols, func(from, to int) {
		for c := from; c < to; c++ {
			for k := range o {
				at := c*o + k
				s.dir[at] = float32(beta[k]*float64(s.dir[at]) - float64(s.grad[at])/s.scale(c, k))
				if frozen[k] {
					s.dir[at] = 0
				}
			}
		}
	})
	return late == 0 && active <= o/4 // a few stragglers are not worth whole passes
}

// scale is the preconditioner: the diagonal of the Hessian at w = 0.
func (s *solver) scale(c, k int) float64 { return s.b.curvature[k]*s.square[c] + s.b.lambda[k] }

// grouped replaces the numbers of the outputs of a group by their sum.
func (s *solver) grouped(v []float64) []float64 {
	out := make([]float64, len(v))
	for k, x := range v {
		out[s.group[k]] += x
	}
	for k, g := range s.group {
		out[k] = out[g]
	}
	return out
}

// product sets along to X·dir.
func (s *solver) product() {
	each(len(s.rows), func(from, to int) {
		for i := from; i < to; i++ {
			r := s.rows[i]
			along := s.along[i*s.o : (i+1)*s.o]
			clear(along)
			for k := s.d.start[r]; k < s.d.start[r+1]; k++ {
				at := int(s.d.col[k]) * s.o
				axpy(s.d.val[k], s.dir[at:at+s.o], along)
			}
		}
	})
}

// move finds the minimum of every group along its direction and goes there.
func (s *solver) move() {
	o := s.o
	ridge := sum(s.d.cols, 2*o, func(acc []float64, from, to int) {
		for c := from; c < to; c++ {
			free := s.free(s.w[c*o : (c+1)*o])
			bend := s.free(s.dir[c*o : (c+1)*o])
			for k := range o {
				at := c*o + k
				d := float64(s.dir[at])
				acc[k] += s.b.lambda[k] * s.drawn(k, s.w[at], free) * d
				acc[o+k] += s.b.lambda[k] * s.drawn(k, s.dir[at], bend) * d
			}
		}
	})
	a := make([]float64, o)
	for range 3 {
		sums := s.probe(a)
		slope, bend := s.grouped(sums[:o]), s.grouped(sums[o:])
		first, second := s.grouped(ridge[:o]), s.grouped(ridge[o:])
		for k := range a {
			if curve := bend[k] + second[k]; curve > 0 {
				a[k] = max(0, a[k]-(slope[k]+first[k]+a[k]*second[k])/curve)
			}
		}
		if !slices.Contains(s.b.kinds, multinomial) && !slices.Contains(s.b.kinds, logistic) {
			break // a quadratic is at its minimum after one step
		}
	}
	each(s.d.cols, func(from, to int) {
		for at := from * o; at < to*o; at++ {
			s.w[at] += float32(a[at%o] * float64(s.dir[at]))
		}
	})
	each(len(s.rows), func(from, to int) {
		for at := from * o; at < to*o; at++ {
			s.z[at] += float32(a[at%o] * float64(s.along[at]))
		}
	})
}

// probe returns the first and second derivatives of the losses along the direction at step a, by output.
func (s *solver) probe(a []float64) []float64 {
	o := s.o
	return sum(len(s.rows), 2*o, func(acc []float64, from, to int) {
		p := make([]float64, o)
		for i := from; i < to; i++ {
			z, along := s.z[i*o:(i+1)*o], s.along[i*o:(i+1)*o]
			s.predict(p, z, along, a)
			mean, classes := 0.0, 0
			for k, v := range along {
				d := float64(v)
				acc[k] += s.slope(i, k, p[k]) * d
				switch s.b.kinds[k] {
				case multinomial:
					if s.b.class[i] >= 0 {
						mean += p[k] * d
						acc[o+k] += p[k] * d * d
						classes++
					}
				case logistic:
					if t := s.b.target[i*o+k]; t == t {
						acc[o+k] += s.b.weigh(i*o+k) * p[k] * (1 - p[k]) * d * d
					}
				case linear:
					if t := s.b.target[i*o+k]; t == t {
						acc[o+k] += s.b.weigh(i*o+k) * d * d
					}
				}
			}
			if classes > 0 {
				acc[o] -= mean * mean // the classes are one group, so their sum counts
			}
		}
	})
}
