// Command openai-go is an unmodified OpenAI client in Go: it knows a base URL and a key and nothing of Tradewind. It
// prints what it saw as one JSON object, for the test that starts it. It is a module of its own so that the product
// does not depend on a client library.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
)

func main() {
	do := run
	switch {
	case len(os.Args) == 2 && os.Args[1] == "retry":
		do = retry
	case len(os.Args) > 1:
		do = direct
	}
	if err := do(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type report struct {
	Answer, Model, Finish      string
	PromptTokens, OutputTokens int64
	Streamed                   string
	Chunks                     int
	StreamUsage                int64
	StreamModel                string
	Models                     []string
	ErrorCode                  string
	ErrorStatus                int
	// Response and ResponseStreamed are the same question through the Responses API, whole and streamed.
	Response, ResponseStreamed, ResponseModel string
	ResponseTokens                            int64
}

// run uses the client as its own quickstart does; base URL and key come from the environment.
func run(ctx context.Context) error {
	client := openai.NewClient()
	var r report
	ask := openai.ChatCompletionNewParams{
		Model:    "auto",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is 17 times 23?")},
	}
	answer, err := client.Chat.Completions.New(ctx, ask)
	if err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	r.Answer, r.Finish = answer.Choices[0].Message.Content, answer.Choices[0].FinishReason
	r.Model, r.PromptTokens, r.OutputTokens = answer.Model, answer.Usage.PromptTokens, answer.Usage.CompletionTokens

	ask.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(ctx, ask)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		chunk := stream.Current()
		r.Chunks++
		if !acc.AddChunk(chunk) {
			return errors.New("stream: the accumulator refused a chunk")
		}
	}
	if err := stream.Err(); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	r.Streamed, r.StreamModel, r.StreamUsage = acc.Choices[0].Message.Content, acc.Model, acc.Usage.CompletionTokens

	if err := r.responses(ctx, &client); err != nil {
		return err
	}
	models, err := client.Models.List(ctx)
	if err != nil {
		return fmt.Errorf("models: %w", err)
	}
	for _, m := range models.Data {
		r.Models = append(r.Models, m.ID)
	}

	ask.Model = "sim/stronk"
	_, err = client.Chat.Completions.New(ctx, ask)
	var apiErr *openai.Error
	if !errors.As(err, &apiErr) {
		return fmt.Errorf("an unknown model gave %v, want an API error", err)
	}
	r.ErrorCode, r.ErrorStatus = apiErr.Code, apiErr.StatusCode
	return json.NewEncoder(os.Stdout).Encode(r)
}

func (r *report) responses(ctx context.Context, client *openai.Client) error {
	ask := responses.ResponseNewParams{
		Model: "sim/middle", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("What is 17 times 23?")},
	}
	answer, err := client.Responses.New(ctx, ask)
	if err != nil {
		return fmt.Errorf("response: %w", err)
	}
	r.Response, r.ResponseModel, r.ResponseTokens = answer.OutputText(), answer.Model, answer.Usage.OutputTokens
	stream := client.Responses.NewStreaming(ctx, ask)
	for stream.Next() {
		if e := stream.Current(); e.Type == "response.completed" {
			r.ResponseStreamed = e.AsResponseCompleted().Response.OutputText()
		}
	}
	return stream.Err()
}

// directReport is of what is passed through: embeddings and completions of the models that the arguments name.
type directReport struct {
	Vectors                        [][]float64
	EmbeddingModel, CompletionUsed string
	Tokens, CompletionTokens       int64
	Text, Streamed                 string
	StreamUsage                    int64
	ErrorCode, ErrorParam          string
}

func direct(ctx context.Context) error {
	client := openai.NewClient()
	var r directReport
	ask := openai.EmbeddingNewParams{Model: os.Args[1], Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "three"}}}
	vectors, err := client.Embeddings.New(ctx, ask)
	if err != nil {
		return fmt.Errorf("embeddings: %w", err)
	}
	for _, e := range vectors.Data {
		r.Vectors = append(r.Vectors, e.Embedding)
	}
	r.EmbeddingModel, r.Tokens = vectors.Model, vectors.Usage.TotalTokens

	text := openai.CompletionNewParams{Model: openai.CompletionNewParamsModel(os.Args[2]), Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("17 times 23 is ")}}
	completion, err := client.Completions.New(ctx, text)
	if err != nil {
		return fmt.Errorf("completion: %w", err)
	}
	r.Text, r.CompletionUsed, r.CompletionTokens = completion.Choices[0].Text, completion.Model, completion.Usage.CompletionTokens
	text.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Completions.NewStreaming(ctx, text)
	for stream.Next() {
		c := stream.Current()
		if len(c.Choices) > 0 {
			r.Streamed += c.Choices[0].Text
		}
		r.StreamUsage = max(r.StreamUsage, c.Usage.CompletionTokens)
	}
	if err := stream.Err(); err != nil {
		return fmt.Errorf("stream: %w", err)
	}

	ask.Model = "auto"
	_, err = client.Embeddings.New(ctx, ask)
	var apiErr *openai.Error
	if !errors.As(err, &apiErr) {
		return fmt.Errorf("embeddings of auto gave %v, want an API error", err)
	}
	r.ErrorCode, r.ErrorParam = apiErr.Code, apiErr.Param
	return json.NewEncoder(os.Stdout).Encode(r)
}
