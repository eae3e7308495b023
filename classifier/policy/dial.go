package policy

import "math"

// DialMax is the setting of a dial at which cost alone counts; at 0 quality does.
const DialMax = 10

// Dial is the price of a dollar at a setting between 0 and DialMax: that at which the choices cost as much less than the
// best ones, on average, as the setting says of all that could be saved. So each step saves about as much as any other, and
// nowhere does turning it change nothing. The curve holds rising Lambdas from 0 on.
func Dial(curve []CostPoint, setting float64) float64 {
	if len(curve) == 0 || !(setting > 0) {
		return 0
	}
	last := len(curve) - 1
	if !(setting < DialMax) || !(curve[0].CostUSD > curve[last].CostUSD) {
		return curve[last].Lambda
	}
	want := curve[0].CostUSD - setting/DialMax*(curve[0].CostUSD-curve[last].CostUSD)
	above := curve[0]
	for _, below := range curve[1:] {
		if below.CostUSD <= want {
			part := (above.CostUSD - want) / (above.CostUSD - below.CostUSD)
			if above.Lambda == 0 {
				return part * below.Lambda
			}
			return above.Lambda * math.Pow(below.Lambda/above.Lambda, part)
		}
		if below.CostUSD < above.CostUSD {
			above.CostUSD = below.CostUSD
		}
		above.Lambda = below.Lambda
	}
	return curve[last].Lambda
}

// Lambdas are the prices of a dollar on a curve that is made of cases as they come: none, and from a tenth to ten million, so
// many a decade.
func Lambdas(decade int) []float64 {
	l := make([]float64, 1, 2+8*decade)
	for j := range 8*decade + 1 {
		l = append(l, math.Pow(10, float64(j)/float64(decade)-1))
	}
	return l
}

// dialDecade is how many prices a decade a dial is made of.
const dialDecade = 9

// Sweep says how the choices of cases change when a dial is turned from 0 to DialMax in whole steps: the share of the cases
// whose best candidate is another at each step than at the one before. Cases in which a price decides nothing, because an arm
// is pinned or latency or availability comes first, are left out; n counts the others. The cases are changed.
func Sweep(cases []Case) (changed [DialMax]float64, n int) {
	lambdas := Lambdas(dialDecade)
	curve, costs, scratch := make([]CostPoint, len(lambdas)), make([]float64, len(lambdas)), Case{}
	swept := cases[:0]
	for _, c := range cases {
		if c.Pinned >= 0 || c.LatencyFirst || c.AvailabilityFirst {
			continue
		}
		swept = append(swept, c)
		Spending(costs, &swept[len(swept)-1], 0, Guard{}, lambdas, &scratch)
		for j := range curve {
			curve[j].Lambda, curve[j].CostUSD = lambdas[j], curve[j].CostUSD+costs[j]
		}
	}
	for i := range swept {
		c, before := &swept[i], -1
		for step := range DialMax + 1 {
			c.Lambda, c.Guard.On = Dial(curve, float64(step)), false
			c.unguard()
			best := c.best()
			if step > 0 && best != before {
				changed[step-1] += 1 / float64(len(swept))
			}
			before = best
		}
	}
	return changed, len(swept)
}
