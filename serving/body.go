package serving

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
)

// This file reads the bodies of requests.

// Limits of a body that does not come: the longest pause in it, to a second, and the longest time for the whole.
const (
	bodyPause = time.Minute
	bodyTime  = 10 * time.Minute
)

// patient is a body whose sender has a limit to how long it may leave us waiting, whoever reads the body and whether anybody
// does: at the end of a request that was refused the server reads what is left of it.
type patient struct {
	io.ReadCloser
	w             http.ResponseWriter
	end, deadline time.Time
}

// patiently limits the patience with a request's body.
func patiently(w http.ResponseWriter, req *http.Request) {
	if req.Body == nil || req.ContentLength == 0 {
		return
	}
	now := time.Now()
	if http.NewResponseController(w).SetReadDeadline(now.Add(bodyPause)) != nil {
		return // what has no deadlines (a test's recorder) never blocks either
	}
	req.Body = &patient{ReadCloser: req.Body, w: w, end: now.Add(bodyTime), deadline: now.Add(bodyPause)}
}

// wait puts the deadline off.
func (p *patient) wait() {
	next := time.Now().Add(bodyPause)
	if next.After(p.end) {
		next = p.end
	}
	if next.Sub(p.deadline) >= time.Second {
		p.set(next)
	}
}

func (p *patient) set(deadline time.Time) {
	p.deadline = deadline
	_ = http.NewResponseController(p.w).SetReadDeadline(deadline) // it has worked before
}

// Read reads from the body. At its end there is no deadline any more: from there on only a client that goes ends the reading.
func (p *patient) Read(b []byte) (int, error) {
	p.wait()
	n, err := p.ReadCloser.Read(b)
	if err == io.EOF {
		p.set(time.Time{})
	}
	return n, err
}

// readBody reads the body of a request to its end, of at most limit bytes. from is the body, or what measures it.
func (g *Gateway) readBody(dst *bytes.Buffer, req *http.Request, from io.Reader, limit int) error {
	if coding := req.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return openai.BadParam("content-encoding", "is %.32q, and bodies are read as they are: send it uncompressed", coding)
	}
	_, err := dst.ReadFrom(io.LimitReader(from, int64(limit)+1))
	switch {
	case errors.Is(err, quota.ErrFullBodies):
		return g.overloaded(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", err, openai.NewError(openai.InvalidRequest, "the body did not come: it may pause for %v and take %v", bodyPause, bodyTime))
	case err != nil:
		return openai.NewError(openai.InvalidRequest, "the body could not be read to its end")
	case dst.Len() > limit:
		return openai.NewError(openai.RequestTooLarge, "the body has more than %d bytes", limit)
	}
	return nil
}

// small reads a small body of our own: one JSON object of which every field is known, or nothing.
func (g *Gateway) small(req *http.Request, limit int, known ...string) (openai.Fields, error) {
	var body bytes.Buffer
	if err := g.readBody(&body, req, req.Body, limit); err != nil {
		return nil, err
	}
	if text := bytes.TrimSpace(body.Bytes()); len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	fields, err := openai.ParseFields(body.Bytes(), openai.DecodeOptions{})
	if err != nil {
		return nil, err
	}
	return fields, onlyKnown(fields, "", known)
}

// onlyKnown refuses a field that is none of known.
func onlyKnown(fields openai.Fields, prefix string, known []string) error {
	for _, f := range fields {
		if !slices.Contains(known, f.Name) {
			return openai.BadParam(prefix+f.Name, "is not a field of this request%s", openai.DidYouMean(f.Name, known))
		}
	}
	return nil
}
