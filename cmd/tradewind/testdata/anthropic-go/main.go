// Command anthropic-go is an unmodified Anthropic client in Go: it knows a base URL, a key and names of models, and
// nothing of Tradewind. It prints what it saw as one JSON object, for the test that starts it. It is a module of its own
// so that the product does not depend on a client library.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/anthropics/anthropic-sdk-go"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type report struct {
	Answer, Model, Stop       string
	InputTokens, OutputTokens int64
	Streamed, StreamModel     string
	Events                    int
	StreamUsage               int64
	Counted                   int64
	ErrorType                 string
	ErrorStatus               int
	Tools                     map[string]tool
}

// tool is one turn with a tool: the call, and what was said once its result was known.
type tool struct{ Name, Input, Said, SaidStreamed string }

// run uses the client as its own quickstart does; base URL and key come from the environment.
func run(ctx context.Context, toolModels []string) error {
	client := anthropic.NewClient()
	r := report{Tools: map[string]tool{}}
	ask := anthropic.MessageNewParams{
		Model: "auto", MaxTokens: 1000,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("What is 17 times 23?"))},
	}
	answer, err := client.Messages.New(ctx, ask)
	if err != nil {
		return fmt.Errorf("message: %w", err)
	}
	r.Answer, r.Stop, r.Model = answer.Content[0].Text, string(answer.StopReason), string(answer.Model)
	r.InputTokens, r.OutputTokens = answer.Usage.InputTokens, answer.Usage.OutputTokens

	streamed, events, err := stream(ctx, &client, ask)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	r.Streamed, r.StreamModel, r.StreamUsage, r.Events = streamed.Content[0].Text, string(streamed.Model), streamed.Usage.OutputTokens, events

	counted, err := client.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: "auto", Messages: ask.Messages})
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	r.Counted = counted.InputTokens

	ask.Model = "sim/stronk"
	_, err = client.Messages.New(ctx, ask)
	var apiErr *anthropic.Error
	if !errors.As(err, &apiErr) {
		return fmt.Errorf("an unknown model gave %v, want an API error", err)
	}
	r.ErrorType, r.ErrorStatus = string(apiErr.Type()), apiErr.StatusCode

	for _, model := range toolModels {
		if r.Tools[model], err = withTool(ctx, &client, model); err != nil {
			return fmt.Errorf("tools with %s: %w", model, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func stream(ctx context.Context, client *anthropic.Client, ask anthropic.MessageNewParams) (m anthropic.Message, events int, err error) {
	s := client.Messages.NewStreaming(ctx, ask)
	for s.Next() {
		events++
		if err := m.Accumulate(s.Current()); err != nil {
			return m, events, err
		}
	}
	return m, events, s.Err()
}

// withTool lets the model call a tool, gives it the result, and asks the same as a stream.
func withTool(ctx context.Context, client *anthropic.Client, model string) (t tool, err error) {
	ask := anthropic.MessageNewParams{
		Model: anthropic.Model(model), MaxTokens: 1000,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("What is 17 times 23?"))},
		Tools: []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
			Name: "multiply", Description: anthropic.String("Multiplies."),
			InputSchema: anthropic.ToolInputSchemaParam{Properties: map[string]any{"a": map[string]any{"type": "number"}, "b": map[string]any{"type": "number"}}},
		}}},
	}
	for _, streamed := range []bool{false, true} {
		turn := ask
		var first, second *anthropic.Message
		if first, err = say(ctx, client, turn, streamed); err != nil {
			return t, err
		}
		turn.Messages = append(turn.Messages[:1:1], first.ToParam())
		for _, block := range first.Content {
			if block.Type == "tool_use" {
				t.Name, t.Input = block.Name, string(block.Input)
				turn.Messages = append(turn.Messages, anthropic.NewUserMessage(anthropic.NewToolResultBlock(block.ID, "391", false)))
			}
		}
		if second, err = say(ctx, client, turn, streamed); err != nil {
			return t, err
		}
		if streamed {
			t.SaidStreamed = second.Content[0].Text
		} else {
			t.Said = second.Content[0].Text
		}
	}
	return t, nil
}

func say(ctx context.Context, client *anthropic.Client, ask anthropic.MessageNewParams, streamed bool) (*anthropic.Message, error) {
	if !streamed {
		return client.Messages.New(ctx, ask)
	}
	m, _, err := stream(ctx, client, ask)
	return &m, err
}
