package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk"
)

const (
	// dialRounds is how many of the latest rounds the dial is swept over, and dialRoundsMin how many it takes to say something.
	dialRounds    = 2000
	dialRoundsMin = 200
	// dialDead is the share of choices below which a step of the dial does nothing.
	dialDead = 0.01
)

// dial turns the dial between quality and cost over recent traffic, and tells where that changes nothing (pain 41).
func (x *examination) dial(ctx context.Context, dir string) {
	dir = filepath.Join(dir, "log")
	if !datasets.IsLog(dir) {
		return
	}
	log, err := datasets.OpenLog(dir, datasets.LogOptions{})
	var rounds []datasets.Round
	if err == nil {
		rounds, err = log.Latest(ctx, dialRounds)
		_ = log.Close()
	}
	var busy *disk.InUseError
	if errors.As(err, &busy) {
		x.add("dial", levelOK, "", "process %d writes the log; once it has stopped the dial is swept over its rounds", busy.PID)
		return
	}
	if err != nil {
		x.add("dial", levelWarn, "tradewind data verify", "the log cannot be read: %v", err)
		return
	}
	cases := make([]policy.Case, len(rounds))
	for i := range rounds {
		cases[i] = rounds[i].Decision.Case
	}
	changed, n := policy.Sweep(cases)
	if n < dialRoundsMin {
		x.add("dial", levelOK, "", "%d sealed rounds were the router's to choose; from %d on the dial is swept over them", n, dialRoundsMin)
		return
	}
	var dead []string
	sum := 0.0
	for step, share := range changed {
		sum += share
		if share < dialDead {
			dead = append(dead, fmt.Sprintf("%d to %d (%.1f %%)", step, step+1, 100*share))
		}
	}
	if len(dead) > 0 {
		x.add("dial", levelWarn, "serve models between which a price decides: of other tiers, or of other prices in a tier",
			"turning the dial from quality to cost changes fewer than %.0f %% of the choices of the last %d rounds from %s", 100*dialDead, n, strings.Join(dead, ", "))
		return
	}
	x.add("dial", levelOK, "", "turning the dial from quality to cost changes %.1f %% of the choices of the last %d rounds with each of its %d steps", 100*sum/policy.DialMax, n, policy.DialMax)
}
