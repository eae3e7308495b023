package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// retry asks once under an idempotency key, whole and streamed, and leaves retries to the client.
func retry(ctx context.Context) error {
	client := openai.NewClient()
	var r struct {
		Answers []string
		Replay  string
	}
	ask := openai.ChatCompletionNewParams{
		Model: "lab/small", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is 17 times 23?")},
	}
	var first *http.Response
	answer, err := client.Chat.Completions.New(ctx, ask, option.WithHeader("Idempotency-Key", "whole"), option.WithResponseInto(&first))
	if err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	r.Answers, r.Replay = append(r.Answers, answer.Choices[0].Message.Content), first.Header.Get("X-Tradewind-Idempotent-Replay")
	stream := client.Chat.Completions.NewStreaming(ctx, ask, option.WithHeader("Idempotency-Key", "stream"))
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	r.Answers = append(r.Answers, acc.Choices[0].Message.Content)
	return json.NewEncoder(os.Stdout).Encode(r)
}
