package serving

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// TestBookings: sums of bookings are those of rounds that are booked one by one, also where days, weeks and months end in
// between, rounds come late, and amounts are absurd.
func TestBookings(t *testing.T) {
	start := time.Date(2026, 5, 31, 22, 0, 0, 0, time.UTC) // a Sunday, the last of a month
	rapid.Check(t, func(t *rapid.T) {
		rounds := make([]datasets.Round, rapid.IntRange(0, 40).Draw(t, "rounds"))
		want := ledger.Sums{}
		for i := range rounds {
			d, o := &rounds[i].Decision, &rounds[i].Outcome
			d.KeyID = rapid.SampledFrom([]string{"k", "l", "m"}).Draw(t, "key")
			d.Team = rapid.SampledFrom([]string{"", "t"}).Draw(t, "team")
			d.Org = rapid.SampledFrom([]string{"", "o"}).Draw(t, "org")
			o.At = start.Add(time.Duration(rapid.IntRange(0, 72).Draw(t, "hours")) * time.Hour)
			o.Cost = catalog.Nanodollars(rapid.OneOf(rapid.Int64Range(-5, 1000), rapid.Just(int64(1)<<62)).Draw(t, "cost"))
			book(&want, []Booking{{Key: d.KeyID, Team: d.Team, Org: d.Org, At: o.At, Cost: o.Cost}})
		}
		all, got := bookings(rounds), ledger.Sums{}
		if book(&got, all); !reflect.DeepEqual(got, want) || len(all) > len(rounds) {
			t.Fatalf("%d bookings of %d rounds: got %v, want %v", len(all), len(rounds), got, want)
		}
	})
}
