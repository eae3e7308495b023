package bench

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"

	"github.com/tradewind-llm/tradewind/datasets"
)

// FoldOf is the fold of a prompt among k: the first four bytes of the SHA-256 of its id as a big-endian number, modulo
// k. It depends on nothing else, so every tool that knows the rule makes the same folds.
func FoldOf(promptID string, k int) int {
	sum := sha256.Sum256([]byte(promptID))
	return int(binary.BigEndian.Uint32(sum[:4]) % uint32(k))
}

// Folds is FoldOf for every prompt of a table. The rounds of a session, which share a draw, stay together: one cannot be
// held out while the others are learned from.
func Folds(t *datasets.Table, k int) []int {
	fold := make([]int, len(t.Prompts))
	for i := range fold {
		fold[i] = FoldOf(cmp.Or(t.Prompts[i].Group, t.Prompts[i].ID), k)
	}
	return fold
}

// TaskFolds makes one fold of every task (the table's dataset column), for evaluation on unseen tasks. Fold f leaves out
// tasks[f]; tasks stand in order of first appearance.
func TaskFolds(t *datasets.Table) (fold []int, tasks []string) {
	fold = make([]int, len(t.Prompts))
	index := map[string]int{}
	for i := range fold {
		f, seen := index[t.Prompts[i].Dataset]
		if !seen {
			f = len(tasks)
			index[t.Prompts[i].Dataset] = f
			tasks = append(tasks, t.Prompts[i].Dataset)
		}
		fold[i] = f
	}
	return fold, tasks
}
