package features_test

import (
	"fmt"
	"slices"

	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/features/tokenizer"
)

// Only what the user said last is counted; the rest of a request shows in the flags and in the tokens.
func Example() {
	vocabulary, err := tokenizer.Learn(slices.Values([]string{"good morning", "good evening"}), tokenizer.LearnOptions{})
	if err != nil {
		panic(err)
	}
	tok, err := tokenizer.New(vocabulary)
	if err != nil {
		panic(err)
	}
	extractor, err := features.New(features.DefaultSpec(), tok)
	if err != nil {
		panic(err)
	}
	var alone, agent features.Context
	extractor.Extract(&alone, features.NewPrompt("Good morning!"))
	extractor.Extract(&agent, &features.Prompt{
		Turns: []features.Turn{{Role: features.System, Text: "Good agents say good morning."}, {Role: features.User, Text: "Good morning!"}},
		Tools: 30, ToolBytes: 12000,
	})
	fmt.Println("same counts:", slices.Equal(alone.Counts, agent.Counts))
	fmt.Println("bytes:", alone.Bytes, agent.Bytes, "of which the last turn:", agent.PromptBytes)
	// Output:
	// same counts: true
	// bytes: 13 12042 of which the last turn: 13
}
