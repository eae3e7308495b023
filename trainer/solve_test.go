package trainer

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
)

// randomDesign is a small dense-ish design with one narrow column at the end.
func randomDesign(rng *rand.Rand, rows, cols int) *design {
	d := &design{start: []int{0}, cols: cols}
	for range rows {
		for c := range cols {
			if rng.IntN(3) > 0 {
				d.col, d.val = append(d.col, uint16(c)), append(d.val, rng.Float32()-0.3)
			}
		}
		d.start = append(d.start, len(d.col))
	}
	return d
}

// objective is the loss that solve minimizes, written independently of it in float64.
func objective(d *design, rows []int, b *block, w []float64) float64 {
	o := len(b.kinds)
	total := 0.0
	for c := range d.cols {
		u, n := 0.0, 0.0
		for k, v := range w[c*o : (c+1)*o] {
			if b.shared && b.kinds[k] == logistic {
				u, n = u+v, n+1
			}
		}
		u /= n + 1
		total += u * u / 2 // all ridges on heads are 1 here
		for k, v := range w[c*o : (c+1)*o] {
			if b.kinds[k] == logistic {
				v -= u
			}
			total += b.lambda[k] / 2 * v * v
		}
	}
	for i, r := range rows {
		z := append([]float64(nil), b.offset...)
		for j := range z {
			z[j] += float64(b.base[i*o+j])
		}
		for k := d.start[r]; k < d.start[r+1]; k++ {
			for j := range z {
				z[j] += float64(d.val[k]) * w[int(d.col[k])*o+j]
			}
		}
		norm := 0.0
		for j, kind := range b.kinds {
			t := float64(b.target[i*o+j])
			switch {
			case kind == multinomial:
				norm += math.Exp(z[j])
				if int(b.class[i]) == j {
					total -= z[j]
				}
			case t != t:
			case kind == logistic:
				total += b.weigh(i*o+j) * (math.Log1p(math.Exp(z[j])) - t*z[j])
			case kind == linear:
				total += b.weigh(i*o+j) * (z[j] - t) * (z[j] - t) / 2
			}
		}
		if b.class[i] >= 0 {
			total += math.Log(norm)
		}
	}
	return total
}

// TestSolveFindsTheMinimum checks by finite differences that the gradient vanishes where solve stops, for all losses at
// once, with unobserved cells, weights and unlabelled rows, with heads that share, and after a break of two steps.
func TestSolveFindsTheMinimum(t *testing.T) {
	for _, shared := range []bool{false, true} {
		checkMinimum(t, shared)
	}
}

func checkMinimum(t *testing.T, shared bool) {
	rng := rand.New(rand.NewPCG(7, 7))
	const n, cols = 90, 7
	d := randomDesign(rng, n, cols)
	b := &block{narrow: cols - 1, shared: shared}
	for range 3 {
		b.add(multinomial, math.Log(1.0/3), 2.0/9, 0.25)
	}
	b.add(logistic, 0.4, 0.24, 1)
	b.add(logistic, -1, 0.2, 1)
	b.add(linear, 3, 1, 1)
	var rows []int
	for i := range n {
		if i%10 == 9 {
			continue // rows need not be all
		}
		rows = append(rows, i)
		b.class = append(b.class, int32(rng.IntN(4)-1))
		b.target = append(b.target, 0, 0, 0, float32(rng.IntN(2)), rng.Float32(), 3+float32(rng.NormFloat64()))
		if i%4 == 0 {
			b.target[len(b.target)-1-i%3] = float32(math.NaN())
		}
		for range b.kinds {
			b.weight = append(b.weight, 0.5+rng.Float32())
			b.base = append(b.base, rng.Float32()-0.5)
		}
	}
	b.steps = 2
	first, err := solve(context.Background(), d, rows, b)
	if err != nil {
		t.Fatal(err)
	}
	b.start, b.steps = first, 0
	got, err := solve(context.Background(), d, rows, b)
	if err != nil {
		t.Fatal(err)
	}
	w, start := make([]float64, len(got)), make([]float64, len(got))
	for at, v := range got {
		w[at] = float64(v)
	}
	slope := func(w []float64, at int) float64 {
		const h = 1e-4
		old := w[at]
		w[at] = old + h
		up := objective(d, rows, b, w)
		w[at] = old - h
		down := objective(d, rows, b, w)
		w[at] = old
		return (up - down) / (2 * h)
	}
	var left, begin float64
	for at := range w {
		if o := len(b.kinds); at/o >= b.narrow && b.kinds[at%o] != linear {
			if w[at] != 0 {
				t.Errorf("narrow column: output %d has weight %v, want 0", at%o, w[at])
			}
			continue
		}
		left, begin = left+math.Pow(slope(w, at), 2), begin+math.Pow(slope(start, at), 2)
	}
	if ratio := math.Sqrt(left / begin); ratio > 3*tolerance {
		t.Errorf("shared %v: the gradient is %v of that at the start, want at most %v", shared, ratio, 3*tolerance)
	}
}

func TestNonNegative(t *testing.T) {
	a := [][]float64{{2, 0.5, 0}, {0.5, 1, 0}, {0, 0, 0}}
	w := nonNegative(a, []float64{2, -1, 1})
	for k, want := range []float64{1, 0, 0} {
		if math.Abs(w[k]-want) > 1e-12 {
			t.Errorf("weight %d: got %v, want %v", k, w[k], want)
		}
	}
}

func TestShrunk(t *testing.T) {
	// Two groups, one arm: values 1,1,1,1 in the first, 0 in the second; mean 0.8.
	s := &moments{groups: 2, arms: 1, n: []float64{4, 1}, sum: []float64{4, 0}, square: []float64{4, 0}}
	mean, variance := s.shrunk(10)
	for g, want := range []float64{(4 + 8.0) / 14, 8.0 / 11} {
		if got := mean.Data[g]; math.Abs(got-want) > 1e-12 {
			t.Errorf("group %d: got mean %v, want %v", g, got, want)
		}
	}
	if got, want := variance.Data[0], 10*0.16/14/14; math.Abs(got-want) > 1e-12 {
		t.Errorf("got variance %v, want %v", got, want)
	}
}

func TestLengthEdges(t *testing.T) {
	bytes := make([]int32, 100)
	for i := range bytes {
		bytes[i] = int32(i / 30) // many ties
	}
	edges := lengthEdges(bytes)
	for i := 1; i < len(edges); i++ {
		if edges[i] <= edges[i-1] {
			t.Fatalf("edges %v do not ascend strictly", edges)
		}
	}
	if got, want := classifier.LengthBin(edges, 3), len(edges); got != want {
		t.Errorf("got bin %d of the longest, want %d", got, want)
	}
}
