package telemetry

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
)

// prefixMin is the shortest beginning of a secret that counts as telling it, and the shortest secret: vendors echo keys cut
// short, and eight bytes are enough to find the key they belong to.
const prefixMin = 8

// keyLike finds keys that nobody told us: a client's own, of which only the digest is configured, another vendor's, or a token
// of Google's, which changes by the hour.
var keyLike = regexp.MustCompile(`(?i)\bbearer\s+[a-z0-9._~+/=-]{8,}|\bsk-[a-z0-9_-]{16,}|\bya29\.[a-z0-9._~+/=-]{3,}`)

// Redactor removes secrets from text: the known ones, plain or in base64, hex or URL escapes, whole or cut to a prefix
// of at least eight bytes, and whatever looks like a key. It is immutable, so any number of goroutines may use it.
type Redactor struct {
	forms []string
}

// NewRedactor knows the given secrets. Those shorter than eight bytes are left out: they are what people write where no key
// is asked for ("none", "EMPTY", "ollama"), they guard nothing, and to cut them out would spoil other words.
func NewRedactor(secrets ...Secret) *Redactor {
	r := &Redactor{}
	seen := map[string]bool{}
	for _, s := range secrets {
		raw := s.Reveal()
		if len(raw) < prefixMin {
			continue
		}
		h := hex.EncodeToString([]byte(raw))
		query, path := url.QueryEscape(raw), url.PathEscape(raw)
		forms := append(inBase64(raw), raw, h, strings.ToUpper(h), query, path, lowerEscapes(query), lowerEscapes(path))
		for _, form := range forms {
			if !seen[form] {
				seen[form] = true
				r.forms = append(r.forms, form)
			}
		}
	}
	return r
}

// inBase64 are a secret's forms in base64, by itself and at the two other positions that it can have in a longer text such
// as "Bearer …", without the characters that depend on what stands around it there.
func inBase64(raw string) (forms []string) {
	for _, enc := range [...]*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		forms = append(forms, enc.EncodeToString([]byte(raw)))
		for before := 1; before <= 2; before++ {
			text := enc.EncodeToString(append(make([]byte, before), raw...))
			forms = append(forms, text[before+1:(before+len(raw))*8/6])
		}
	}
	return forms
}

// lowerEscapes has the escapes of a URL in lower case, as some write them.
func lowerEscapes(escaped string) string {
	b := []byte(escaped)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(escaped[i+1:i+3]))
		}
	}
	return string(b)
}

// Redact returns s without its secrets.
func (r *Redactor) Redact(s string) string {
	for _, form := range r.forms {
		s = cut(s, form)
	}
	if strings.Contains(s, "-") || strings.Contains(s, " ") || strings.Contains(s, "ya29.") {
		s = keyLike.ReplaceAllLiteralString(s, Redacted)
	}
	return s
}

// cut replaces every beginning of form in s that is at least prefixMin long.
func cut(s, form string) string {
	head := form[:prefixMin]
	i := strings.Index(s, head)
	if i < 0 {
		return s
	}
	var b strings.Builder
	for ; i >= 0; i = strings.Index(s, head) {
		end := len(head)
		for end < len(form) && i+end < len(s) && s[i+end] == form[end] {
			end++
		}
		b.WriteString(s[:i])
		b.WriteString(Redacted)
		s = s[i+end:]
	}
	b.WriteString(s)
	return b.String()
}

// Handler is a slog.Handler that redacts before it hands on.
type Handler struct {
	inner    slog.Handler
	redactor *atomic.Pointer[Redactor] // shared with those that WithAttrs and WithGroup make
}

// NewHandler wraps inner: no message or attribute that goes through it tells one of the secrets, and attributes that
// are named after a credential (authorization, api_key, …) lose their value whatever it is.
func NewHandler(inner slog.Handler, secrets ...Secret) *Handler {
	h := &Handler{inner: inner, redactor: &atomic.Pointer[Redactor]{}}
	h.SetSecrets(secrets...)
	return h
}

// SetSecrets replaces the secrets that are known from now on, in every handler that was made of this one.
func (h *Handler) SetSecrets(secrets ...Secret) { h.redactor.Store(NewRedactor(secrets...)) }

// Redact returns s without the secrets that are known now.
func (h *Handler) Redact(s string) string { return h.redactor.Load().Redact(s) }

// Enabled asks the inner handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

// Handle redacts the record and hands it on.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, h.redactor.Load().Redact(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a))
		return true
	})
	return h.inner.Handle(ctx, clean)
}

// WithAttrs redacts the attributes once, here.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	return &Handler{inner: h.inner.WithAttrs(clean), redactor: h.redactor}
}

// WithGroup opens a group in the inner handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{inner: h.inner.WithGroup(name), redactor: h.redactor}
}

func (h *Handler) attr(a slog.Attr) slog.Attr {
	if credential(a.Key) {
		return slog.String(a.Key, Redacted)
	}
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, h.redactor.Load().Redact(v.String()))
	case slog.KindGroup:
		members := v.Group()
		clean := make([]any, len(members))
		for i, m := range members {
			clean[i] = h.attr(m)
		}
		return slog.Group(a.Key, clean...)
	case slog.KindAny:
		return slog.String(a.Key, h.redactor.Load().Redact(text(v.Any())))
	}
	return slog.Attr{Key: a.Key, Value: v}
}

// text is a value as a log would show it. Everything becomes text here, because what a handler would make of it later
// could not be searched any more.
func text(v any) string {
	switch v := v.(type) {
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	case []byte:
		return string(v)
	}
	if s := reflect.ValueOf(v); s.Kind() == reflect.String { // a name of a type of its own, such as a round's
		return s.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(b)
}

// credential reports whether an attribute of this name holds a secret by its meaning.
func credential(key string) bool {
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	switch key {
	case "authorization", "proxy_authorization", "apikey", "cookie", "set_cookie", "secret", "password", "bearer":
		return true
	}
	return strings.HasSuffix(key, "api_key") || strings.HasSuffix(key, "_secret") || strings.HasSuffix(key, "_password") ||
		strings.HasSuffix(key, "_token")
}
