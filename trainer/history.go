package trainer

import (
	"cmp"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
)

const (
	// historyPriorMin is the least number of pseudo-counts that draw a team's departure to nothing, however much teams differ.
	// Scores scatter by about .45, so after a hundred draws the mean of a team is known to .045; before, it says less than
	// what the estimates of two arms differ by.
	historyPriorMin = 100
	// historyZ is how many standard errors teams must differ by in an arm before any of them has a history with it.
	historyZ = 3
)

// departed is what the draws of one team and arm scored beyond what the router expects of all.
type departed struct{ n, sum, square float64 }

// remember gives a model the history of its teams, one more level of shrinkage: the mean over a team's draws of score less
// the estimate of a router that did not see them, drawn to nothing by pseudo-counts. How many is learned arm by arm from how
// much teams differ (empirical Bayes). Where nothing shows that they differ in an arm, nobody has a history with it.
func remember(m *classifier.Model, o *OOF) {
	teams, cells := o.departures()
	arms := len(o.Table.Arms)
	noise := scatter(cells)
	history, variance := classifier.NewTable(len(teams), arms), classifier.NewTable(len(teams), arms)
	any := false
	for j := range arms {
		prior, differ := pseudoCounts(cells, j, arms, noise)
		if !differ {
			continue
		}
		any = true
		for at := j; at < len(cells); at += arms {
			c := &cells[at]
			history.Data[at] = c.sum / (c.n + prior)
			variance.Data[at] = c.n * noise / (c.n + prior) / (c.n + prior)
		}
	}
	if any {
		m.Router.Teams, m.Tables.History, m.Tables.HistoryVar = teams, history, variance
	}
}

// departures are those of the teams with the most draws, teams × arms, in ascending order of the teams. All rounds of a draw
// are one observation: they are of one conversation.
func (o *OOF) departures() ([]classifier.Team, []departed) {
	type drawn struct {
		team   classifier.Team
		arm    int
		n, sum float64
	}
	var draws []drawn
	place, count := map[string]int{}, map[classifier.Team]int{}
	arms := len(o.Table.Arms)
	for _, k := range o.seen.logged(o.Rows) {
		i := o.Rows[k]
		p, arm, team := &o.Table.Prompts[i], o.observed(i), o.seen.team[i]
		if team == 0 || arm < 0 {
			continue
		}
		id := cmp.Or(p.Group, p.ID)
		at, known := place[id]
		if !known {
			at = len(draws)
			place[id], draws = at, append(draws, drawn{team: team, arm: arm})
			count[team]++
		}
		draws[at].n++
		draws[at].sum += float64(o.Table.Score[i*arms+arm]) - o.Quality[k*arms+arm]
	}
	var teams []classifier.Team
	for t := range count {
		teams = append(teams, t)
	}
	slices.SortFunc(teams, func(a, b classifier.Team) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
	teams = teams[:min(len(teams), classifier.HistoryTeamsMax)]
	slices.Sort(teams)
	cells := make([]departed, len(teams)*arms)
	for _, d := range draws {
		if t, kept := slices.BinarySearch(teams, d.team); kept {
			c, mean := &cells[t*arms+d.arm], d.sum/d.n
			c.n, c.sum, c.square = c.n+1, c.sum+mean, c.square+mean*mean
		}
	}
	return teams, cells
}

// scatter is the variance of draws within teams and arms.
func scatter(cells []departed) float64 {
	square, free := 0.0, 0.0
	for _, c := range cells {
		if c.n > 1 {
			square, free = square+c.square-c.sum*c.sum/c.n, free+c.n-1
		}
	}
	return square / max(free, 1)
}

// pseudoCounts is the variance of one draw over that between teams in arm j, by the method of moments (DerSimonian and
// Laird 1986). It is false where teams differ by no more than draws scatter (Cochran's Q), and where there is but one.
func pseudoCounts(cells []departed, j, arms int, variance float64) (prior float64, differ bool) {
	q, n, sum, square, teams := 0.0, 0.0, 0.0, 0.0, 0.0
	for at := j; at < len(cells); at += arms {
		if c := &cells[at]; c.n > 0 {
			q += c.sum * c.sum / c.n / variance
			n, sum, square, teams = n+c.n, sum+c.sum, square+c.n*c.n, teams+1
		}
	}
	if teams < 2 || variance == 0 {
		return 0, false
	}
	excess := q - sum*sum/n/variance - (teams - 1)
	return max(historyPriorMin, (n-square/n)/excess), excess > historyZ*math.Sqrt(2*(teams-1))
}
