package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

type usageCmd struct {
	Config  string `help:"Configuration file; TRADEWIND_CONFIG."`
	DataDir string `help:"Where the journal, the log and the routers live."`
	JSON    bool   `help:"Print as JSON."`
}

// spent is what the command shows, in the words of GET /v1/usage.
type spent struct {
	Budgets []spentBudget `json:"budgets"`
	Keys    []spentKey    `json:"keys"`
}

type spentBudget struct {
	Scope   string `json:"scope"`
	ScopeID string `json:"scope_id"`
	// Name is what people call the key whose own budget it is: its id says nothing to them, and it may have spent nothing yet.
	Name      string              `json:"name,omitempty"`
	Window    string              `json:"window"`
	Limit     catalog.Nanodollars `json:"limit_usd"`
	Spent     catalog.Nanodollars `json:"spent_usd"`
	Remaining catalog.Nanodollars `json:"remaining_usd"`
	ResetsAt  *time.Time          `json:"resets_at"`
}

// used is the share of the budget that is spent.
func (b *spentBudget) used() float64 { return b.Spent.Dollars() / max(b.Limit.Dollars(), 1e-9) }

type spentKey struct {
	ID         string              `json:"key_id"`
	Name       string              `json:"name,omitempty"`
	Org        string              `json:"org,omitempty"`
	Team       string              `json:"team,omitempty"`
	Configured bool                `json:"configured"`
	Today      catalog.Nanodollars `json:"today_usd"`
	Month      catalog.Nanodollars `json:"month_usd"`
	Spent      catalog.Nanodollars `json:"spent_usd"`
}

// Run shows who has spent what. A server may be at work.
func (c *usageCmd) Run(_ context.Context, m *Main) error {
	conf, err := loadConfig(c.Config, m.Getenv, func(conf *config) {
		if c.DataDir != "" {
			conf.DataDir = c.DataDir
		}
	})
	if err != nil {
		return err
	}
	auth, err := governance.New(governance.Options{Keys: conf.Keys, Orgs: conf.Orgs, Teams: conf.Teams})
	if err != nil {
		return conf.located(err)
	}
	sums, err := serving.Spent(checkpointOf(conf.DataDir), filepath.Join(conf.DataDir, "journal"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(conf.DataDir, "journal")); errors.Is(err, fs.ErrNotExist) { // a server's own is often relative
		fmt.Fprintf(m.Stderr, "no server has used the data directory %s; name another with --data-dir\n", conf.DataDir)
	}
	s := spendings(auth.Principals(), sums, time.Now())
	if c.JSON {
		return writeJSON(m.Stdout, s)
	}
	return s.print(m)
}

// spendings puts the budgets that are used up most first, then the keys that cost most this month.
func spendings(all []*governance.Principal, sums ledger.Sums, now time.Time) *spent {
	s := &spent{Budgets: []spentBudget{}, Keys: []spentKey{}}
	seen, known := map[ledger.AccountID]bool{}, map[string]*governance.Principal{}
	for _, p := range all {
		known[p.KeyID] = p
		for _, b := range p.Budgets {
			window := ledger.Window(b.Window)
			id := ledger.Account(b.Scope, b.Owner, window)
			if seen[id] {
				continue
			}
			seen[id] = true
			row := spentBudget{Scope: b.Scope, ScopeID: b.Owner, Window: b.Window, Limit: b.Amount, Spent: sums.In(id, now)}
			row.Remaining = max(0, row.Limit-row.Spent)
			if b.Scope == "key" {
				row.Name = p.Name
			}
			if _, end := window.Bounds(now); !end.IsZero() {
				row.ResetsAt = &end
			}
			s.Budgets = append(s.Budgets, row)
		}
	}
	for id := range sums.All() {
		if id != ledger.Account("key", id.Owner(), ledger.Total) {
			continue
		}
		key := spentKey{ID: id.Owner(), Today: sums.In(ledger.Account("key", id.Owner(), ledger.Day), now),
			Month: sums.In(ledger.Account("key", id.Owner(), ledger.Month), now), Spent: sums.In(id, now)}
		if p := known[key.ID]; p != nil {
			key.Configured, key.Name, key.Org, key.Team = true, p.Name, p.Org, p.Team
		}
		s.Keys = append(s.Keys, key)
	}
	slices.SortFunc(s.Budgets, func(a, b spentBudget) int {
		return cmp.Or(cmp.Compare(b.used(), a.used()), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.ScopeID, b.ScopeID), cmp.Compare(a.Window, b.Window))
	})
	slices.SortFunc(s.Keys, func(a, b spentKey) int {
		return cmp.Or(cmp.Compare(b.Month, a.Month), cmp.Compare(b.Spent, a.Spent), cmp.Compare(a.ID, b.ID))
	})
	return s
}

func (s *spent) print(m *Main) error {
	t := tabwriter.NewWriter(m.Stdout, 2, 8, 2, ' ', 0)
	if len(s.Budgets) > 0 {
		fmt.Fprintln(t, "BUDGET OF\tWINDOW\tLIMIT USD\tSPENT\tLEFT\tUSED\tSTARTS AGAIN\t")
	}
	for i := range s.Budgets {
		b := &s.Budgets[i]
		again := "-"
		if b.ResetsAt != nil {
			again = b.ResetsAt.Format("2006-01-02")
		}
		fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\t%s\t%.0f %%\t%s\t\n", b.Scope, named(b.ScopeID, b.Name), b.Window, b.Limit, b.Spent, b.Remaining, 100*b.used(), again)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Keys) > 0 {
		fmt.Fprintln(t, "KEY\tWHOSE\tTODAY USD\tMONTH\tIN ALL\t")
	}
	for _, k := range s.Keys {
		whose := "no longer configured"
		if k.Configured {
			whose = named(cmp.Or((&governance.Principal{Org: k.Org, Team: k.Team}).TeamOwner(), k.Org, "-"), k.Name)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t\n", k.ID, whose, k.Today, k.Month, k.Spent)
	}
	if len(s.Budgets)+len(s.Keys) == 0 {
		fmt.Fprintln(t, "nobody has a budget, and nothing was spent")
	}
	return t.Flush()
}

// named puts a name, where there is one, behind what it names.
func named(id, name string) string {
	if name == "" {
		return id
	}
	return id + " (" + name + ")"
}
