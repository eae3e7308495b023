package bench

import (
	"cmp"
	"math"
	"slices"
)

// Point is what one configuration of a router costs and achieves: means over the prompts.
type Point struct {
	Cost  float64 `json:"cost_usd"`
	Score float64 `json:"score"`
}

// Hull is the upper concave, strictly increasing part of a set of points, by cost: what can be reached by mixing them
// at random. Slopes decrease strictly.
type Hull []Point

// NewHull builds the hull of points, which are left as they are.
func NewHull(points ...[]Point) Hull { return appendHull(nil, points...) }

// appendHull is NewHull into memory of the caller's.
func appendHull(buf []Point, points ...[]Point) Hull {
	all := buf[:0]
	for _, p := range points {
		all = append(all, p...)
	}
	slices.SortFunc(all, func(a, b Point) int {
		if a.Cost != b.Cost {
			return cmp.Compare(a.Cost, b.Cost)
		}
		return cmp.Compare(b.Score, a.Score)
	})
	h := all[:0] // the hull is never longer than what has been read
	for _, p := range all {
		if len(h) > 0 && p.Score <= h[len(h)-1].Score {
			continue
		}
		for len(h) >= 2 && !steeper(h[len(h)-2], h[len(h)-1], p) {
			h = h[:len(h)-1]
		}
		h = append(h, p)
	}
	return Hull(h)
}

// steeper reports whether the slope from a to b exceeds the slope from b to c.
func steeper(a, b, c Point) bool {
	return (b.Score-a.Score)*(c.Cost-b.Cost) > (c.Score-b.Score)*(b.Cost-a.Cost)
}

// At is the score at a cost: linear between vertices, flat before the first and after the last.
func (h Hull) At(cost float64) float64 {
	k, found := slices.BinarySearchFunc(h, cost, func(p Point, c float64) int { return cmp.Compare(p.Cost, c) })
	switch {
	case len(h) == 0:
		return math.NaN()
	case found || k == 0:
		return h[k].Score
	case k == len(h):
		return h[k-1].Score
	}
	a, b := h[k-1], h[k]
	return a.Score + (b.Score-a.Score)*(cost-a.Cost)/(b.Cost-a.Cost)
}

// CostOf is the least cost at which the hull reaches a score, or NaN where it never does.
func (h Hull) CostOf(score float64) float64 {
	for k, p := range h {
		if p.Score < score {
			continue
		}
		if k == 0 {
			return p.Cost
		}
		a := h[k-1]
		return a.Cost + (p.Cost-a.Cost)*(score-a.Score)/(p.Score-a.Score)
	}
	return math.NaN()
}

// AIQ is the mean height of the hull between two costs: exact trapezoids over the vertices, or the height itself where
// the costs are equal.
func (h Hull) AIQ(from, to float64) float64 {
	if len(h) == 0 || !(from <= to) {
		return math.NaN()
	}
	if from == to {
		return h.At(to)
	}
	area, at := 0.0, Point{from, h.At(from)}
	for _, p := range h {
		if p.Cost <= from {
			continue
		}
		if p.Cost >= to {
			break
		}
		area += (p.Cost - at.Cost) * (p.Score + at.Score) / 2
		at = p
	}
	area += (to - at.Cost) * (h.At(to) + at.Score) / 2
	return area / (to - from)
}
