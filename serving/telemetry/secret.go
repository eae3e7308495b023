// Package telemetry is what serving shows of itself: metrics, logs that cannot tell a secret, and Secret, the type of
// every string that must not be seen.
//
// It is the only package of serving that knows Prometheus. It is not the log of rounds (serving/journal) and decides
// nothing.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what stands wherever a secret would have stood.
const Redacted = "[redacted]"

// Secret is a string that is never shown: every verb of fmt, slog, JSON and YAML write "[redacted]". Only Reveal gives
// it away, so that a search for Reveal finds every place where a secret leaves.
//
// Three ways around it remain, because no method is called there: the verbs %w and %p, which go vet refuses (and go
// test runs that check); an unexported field of a struct that is printed whole; the key of a map that becomes JSON.
// Keep secrets in exported fields and out of keys; the redacting log handler stands behind all three.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]".
func (Secret) String() string { return Redacted }

// Format writes "[redacted]" for every verb; without it %x and %#v would print the bytes.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue is what slog writes.
func (Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText is what JSON and XML show.
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalYAML is what a dumped configuration shows.
func (Secret) MarshalYAML() (any, error) { return Redacted, nil }
