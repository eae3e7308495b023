package evals

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

// The picture, in its own units: the frame of the plot inside the drawing.
const (
	svgWidth, svgHeight       = 860.0, 520.0
	frameLeft, frameRight     = 62.0, 846.0
	frameTop, frameBottom     = 52.0, 468.0
	labelPerRune, labelHeight = 6.4, 13.0
	curveSteps                = 160
	svgRoutersMax             = 4 // colours there are
	costScale                 = 1000.0
)

// svgStyle has no variables: converters that know little CSS draw the light form.
const svgStyle = `<style>
.tw { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.tw .back { fill: #fff; } .tw text { fill: #5c6675; } .tw .grid { stroke: #e3e7ed; }
.tw text.arm { fill: #1d2430; stroke: #fff; stroke-width: 3px; paint-order: stroke; stroke-linejoin: round; }
.tw .dot { fill: #1d2430; stroke: #fff; } .tw path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.tw .zero { stroke: #1d2430; stroke-dasharray: 6 4; } .tw .oracle { stroke: #8a94a3; stroke-dasharray: 1 4; stroke-linecap: round; }
.tw .b0 { stroke: #c98a00; } .tw .b1 { stroke: #d1495b; }
.tw .r0 { stroke: #0b6fc2; stroke-width: 2.75; } .tw .r1 { stroke: #8a3fc0; } .tw .r2 { stroke: #0b7a53; } .tw .r3 { stroke: #7d5a3c; }
@media (prefers-color-scheme: dark) {
.tw .back { fill: #12161c; } .tw text { fill: #9aa5b4; } .tw .grid { stroke: #2b323d; }
.tw text.arm { fill: #e4e8ee; stroke: #12161c; } .tw .dot { fill: #e4e8ee; stroke: #12161c; } .tw .zero { stroke: #e4e8ee; }
.tw .r0 { stroke: #58b0f5; } .tw .r1 { stroke: #c193f0; } .tw .r2 { stroke: #4ccb9a; } .tw .r3 { stroke: #d0a27c; }
}
</style>`

// canvas maps costs (logarithmic) and scores (linear) to the drawing, and remembers what is taken by labels.
type canvas struct {
	strings.Builder
	left, right, low, high float64 // log10 cost per 1,000 requests; score
	taken                  []box
}

type box struct{ x0, y0, x1, y1 float64 }

func (a box) meets(b box) bool { return a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1 }

func (c *canvas) x(cost float64) float64 {
	return frameLeft + (math.Log10(cost*costScale)-c.left)/(c.right-c.left)*(frameRight-frameLeft)
}

func (c *canvas) y(score float64) float64 {
	return frameBottom - (score-c.low)/(c.high-c.low)*(frameBottom-frameTop)
}

// WriteSVG draws hulls over cost on a logarithmic axis, with every constant as a labelled dot. It follows the reader's
// dark mode, and writes nothing where costs are unknown.
func (r *Report) WriteSVG(w io.Writer) error {
	c := newCanvas(r)
	if c == nil {
		return nil
	}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" class="tw" viewBox="0 0 %g %g" role="img" aria-label="Score over cost of routers and constants">`, svgWidth, svgHeight)
	fmt.Fprintf(c, "%s\n<rect class=\"back\" width=\"%g\" height=\"%g\"/>\n", svgStyle, svgWidth, svgHeight)
	c.axes()
	c.lines(r.Curves)
	c.arms(r.Arms)
	c.WriteString("</svg>\n")
	return flush(w, c.String())
}

// newCanvas fits the axes to the constants and the curves, or is nil where there is nothing to draw.
func newCanvas(r *Report) *canvas {
	c := &canvas{left: math.Inf(1), right: math.Inf(-1), low: math.Inf(1), high: math.Inf(-1)}
	for _, curve := range r.Curves {
		for _, p := range bench.NewHull(curve.Points) {
			c.high = max(c.high, p.Score)
		}
	}
	for _, a := range r.Arms {
		if a.Cost > 0 {
			at := math.Log10(float64(a.Cost) * costScale)
			c.left, c.right = min(c.left, at), max(c.right, at)
		}
		c.low, c.high = min(c.low, float64(a.Score)), max(c.high, float64(a.Score))
	}
	if len(r.Curves) == 0 || math.IsInf(c.left, 0) {
		return nil
	}
	margin := max(0.06*(c.right-c.left), 0.05)
	c.left, c.right = c.left-margin, c.right+margin
	margin = max(0.05*(c.high-c.low), 0.005)
	c.low, c.high = max(c.low-margin, 0), min(c.high+margin, 1.01)
	return c
}

func (c *canvas) axes() {
	for decade := math.Floor(c.left); decade <= c.right; decade++ {
		for _, digit := range []float64{1, 2, 5} {
			at := decade + math.Log10(digit)
			if at < c.left || at > c.right || c.right-c.left > 3.5 && digit != 1 {
				continue
			}
			x := c.x(math.Pow(10, at) / costScale)
			fmt.Fprintf(c, `<line class="grid" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/>`, x, x, frameTop, frameBottom)
			fmt.Fprintf(c, `<text x="%.1f" y="%g" text-anchor="middle">$%.4g</text>`+"\n", x, frameBottom+17, math.Pow(10, at))
		}
	}
	step := 0.01
	for _, s := range []float64{0.02, 0.05, 0.1, 0.2} {
		if (c.high-c.low)/step > 10 {
			step = s
		}
	}
	for score := math.Ceil(c.low/step) * step; score <= c.high; score += step {
		fmt.Fprintf(c, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, frameLeft, frameRight, c.y(score), c.y(score))
		fmt.Fprintf(c, `<text x="%g" y="%.1f" text-anchor="end">%.2f</text>`+"\n", frameLeft-8, c.y(score)+4, score)
	}
	fmt.Fprintf(c, `<text x="%g" y="%g" text-anchor="middle">US dollars per 1,000 requests (logarithmic)</text>`, (frameLeft+frameRight)/2, svgHeight-10)
	fmt.Fprintf(c, `<text x="14" y="%g" text-anchor="middle" transform="rotate(-90 14 %g)">mean score</text>`+"\n", (frameTop+frameBottom)/2, (frameTop+frameBottom)/2)
}

// lines draws hulls and, above the frame, what each colour means.
func (c *canvas) lines(curves []Curve) {
	baselines, routers, legend := 0, 0, frameLeft
	for _, curve := range curves {
		class := ""
		switch curve.Kind {
		case KindZero:
			class = "zero"
		case KindOracle:
			class = "oracle"
		case KindBaseline:
			class = fmt.Sprintf("b%d", baselines)
			baselines++
		default:
			class = fmt.Sprintf("r%d", routers%svgRoutersMax)
			routers++
		}
		fmt.Fprintf(c, `<path class="%s" d="%s"><title>%s</title></path>`+"\n", class, c.path(bench.NewHull(curve.Points)), html.EscapeString(curve.Name))
		name := short(curve.Name, 28)
		fmt.Fprintf(c, `<path class="%s" d="M%.1f 24h22"/><text x="%.1f" y="28">%s</text>`+"\n", class, legend, legend+28, html.EscapeString(name))
		legend += 28 + labelPerRune*float64(len([]rune(name))) + 24
	}
}

// path samples a hull: it is straight in dollars, so it bends on a logarithmic axis. Labels keep clear of it.
func (c *canvas) path(h bench.Hull) string {
	var d strings.Builder
	from := c.left
	if h[0].Cost > 0 {
		from = max(from, math.Log10(h[0].Cost*costScale))
	}
	for k := range curveSteps + 1 {
		cost := math.Pow(10, from+(c.right-from)*float64(k)/curveSteps) / costScale
		x, y := c.x(cost), c.y(h.At(cost))
		fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(k, 1)], x, y)
		c.taken = append(c.taken, box{x - 2, y - 2, x + 2, y + 2})
	}
	return d.String()
}

// arms draws the constants, the best first, and a label at each where one fits; the others show it under the pointer.
func (c *canvas) arms(arms []ArmRow) {
	for _, a := range arms {
		if a.Cost > 0 {
			x, y := c.x(float64(a.Cost)), c.y(float64(a.Score))
			c.taken = append(c.taken, box{x - 5, y - 5, x + 5, y + 5})
		}
	}
	for _, a := range arms {
		if !(a.Cost > 0) {
			continue
		}
		x, y := c.x(float64(a.Cost)), c.y(float64(a.Score))
		name := html.EscapeString(string(a.Arm))
		fmt.Fprintf(c, `<circle class="dot" cx="%.1f" cy="%.1f" r="4"><title>%s: %s at $%s</title></circle>`, x, y, name, decimal(a.Score), dollars(costScale*a.Cost))
		label := short(a.Arm.Model(), 30)
		if at, ok := c.place(x, y, labelPerRune*float64(len([]rune(label)))); ok {
			fmt.Fprintf(c, `<text class="arm" x="%.1f" y="%.1f">%s</text>`, at.x0, at.y1-3, html.EscapeString(label))
		}
		c.WriteByte('\n')
	}
}

// place finds room for a label of a width beside a dot and takes it.
func (c *canvas) place(x, y, width float64) (box, bool) {
	half := labelHeight / 2
	for _, b := range []box{
		{x + 8, y - half, x + 8 + width, y + half}, {x - 8 - width, y - half, x - 8, y + half},
		{x - width/2, y + 6, x + width/2, y + 6 + labelHeight}, {x - width/2, y - 6 - labelHeight, x + width/2, y - 6},
		{x + 6, y + 5, x + 6 + width, y + 5 + labelHeight}, {x + 6, y - 5 - labelHeight, x + 6 + width, y - 5},
		{x - 6 - width, y + 5, x - 6, y + 5 + labelHeight}, {x - 6 - width, y - 5 - labelHeight, x - 6, y - 5},
		{x - width/2, y + 16, x + width/2, y + 16 + labelHeight}, {x - width/2, y - 16 - labelHeight, x + width/2, y - 16},
	} {
		free := b.x0 > frameLeft && b.x1 < frameRight && b.y0 > frameTop && b.y1 < frameBottom
		for _, t := range c.taken {
			free = free && !b.meets(t)
		}
		if free {
			c.taken = append(c.taken, b)
			return b, true
		}
	}
	return box{}, false
}

func short(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
