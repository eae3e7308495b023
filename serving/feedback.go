package serving

import (
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file reads feedback.

// Limits of feedback.
const (
	feedbackBodyMax = 64 << 10
	commentMax      = 2000
	labelMax        = 200
	metricsMax      = 32
)

// sources are who may judge an answer; the first is meant where a feedback names none.
var sources = []string{"user", "check", "judge", "system"}

// readFeedback reads and checks the body of /v1/feedback.
func (g *Gateway) readFeedback(req *http.Request) (*datasets.Feedback, error) {
	fields, err := g.small(req, feedbackBodyMax, "decision_id", "score", "source", "label", "comment", "metrics")
	if err != nil {
		return nil, err
	}
	f := &datasets.Feedback{Source: sources[0]}
	for _, field := range fields {
		v := field.Value
		if fields.Get(field.Name) == nil {
			continue
		}
		switch field.Name {
		case "decision_id":
			var id string
			id, err = v.Text("decision_id")
			f.RoundID = datasets.RoundID(id)
		case "score":
			f.Score, err = parseScore(v)
		case "source":
			if f.Source, err = v.Text("source"); err == nil && !slices.Contains(sources, f.Source) {
				err = openai.BadParam("source", "must be one of user, check, judge, system%s", openai.DidYouMean(f.Source, sources))
			}
		case "label":
			f.Label, err = shortText(v, "label", labelMax)
		case "comment":
			f.Comment, err = shortText(v, "comment", commentMax)
		case "metrics":
			f.Metrics, err = parseMetrics(v)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case f.RoundID == "":
		return nil, openai.Missing("decision_id", nil)
	case fields.Get("score") == nil:
		return nil, openai.Missing("score", nil)
	}
	return f, nil
}

// shortText reads a text of at most so many characters.
func shortText(v openai.Value, param string, limit int) (string, error) {
	text, err := v.Text(param)
	if err == nil && utf8.RuneCountInString(text) > limit {
		err = openai.BadParam(param, "must have at most %d characters", limit)
	}
	return text, err
}

// parseScore reads a number from 0 to 1, or a boolean: true is 1.
func parseScore(v openai.Value) (float64, error) {
	switch string(v) {
	case "true":
		return 1, nil
	case "false":
		return 0, nil
	}
	if x, err := strconv.ParseFloat(string(v), 64); err == nil && x >= 0 && x <= 1 {
		return x, nil
	}
	return 0, openai.BadParam("score", "must be a number from 0 to 1, or true or false")
}

// parseMetrics reads an object of numbers.
func parseMetrics(v openai.Value) (map[string]float64, error) {
	fields, err := v.Fields("metrics")
	if err != nil {
		return nil, err
	}
	if len(fields) > metricsMax {
		return nil, openai.BadParam("metrics", "must have at most %d entries", metricsMax)
	}
	metrics := make(map[string]float64, len(fields))
	for _, f := range fields {
		if metrics[f.Name], err = strconv.ParseFloat(string(f.Value), 64); err != nil {
			return nil, openai.BadParam("metrics", "must have numbers only, and %.64q is none", f.Name)
		}
	}
	return metrics, nil
}
