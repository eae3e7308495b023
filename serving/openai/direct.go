package openai

// This file reads what is passed through: requests for embeddings and for completions of a text. Nobody chooses a model for
// them, so all that is taken out of them is whom they name and what they may cost.

// Limits of what is passed through.
const (
	// InputsMax bounds the texts of one request, InputTokensMax the token ids of all of them.
	InputsMax      = 2048
	InputTokensMax = 1 << 20
	// CompletionTokens caps a completion whose request does not: it is the API's own default, and is sent.
	CompletionTokens = 16
)

// DecodeEmbeddings reads a request for embeddings as Decode reads one for chat.
func DecodeEmbeddings(body []byte, o DecodeOptions) (*Request, error) {
	return decodeForm(body, o, embeddingsForm, fInput)
}

// DecodeCompletions reads a request for completions. N is the answers that may be billed: of every prompt the larger one of
// n and best_of.
func DecodeCompletions(body []byte, o DecodeOptions) (*Request, error) {
	r, err := decodeForm(body, o, completionsForm, fPrompt)
	if err != nil {
		return nil, err
	}
	if r.MaxTokens == 0 {
		r.MaxTokens = CompletionTokens
	}
	r.N = max(r.N, r.bestOf) * r.inputs
	return r, nil
}

// readInputs reads a text, the ids of its tokens, or an array of either.
func (r *Request) readInputs(s *scanner, name string) error {
	r.special = true
	if s.at('"') {
		return r.inputText(s)
	}
	if !s.at('[') {
		return s.wrong(name, "a string or an array")
	}
	ids := false
	err := s.elements(func(i int) error {
		switch {
		case ids, i == 0 && !s.at('"') && !s.at('['):
			ids, r.inputs = true, 1
			return r.inputToken(s, name)
		case r.inputs == InputsMax:
			return badParam(name, "must have at most %d texts", InputsMax)
		case s.at('"'):
			return r.inputText(s)
		case !s.at('['):
			return s.wrong(Path(name, i, ""), "a string or an array of token ids")
		}
		r.inputs++
		before := r.inputTokens
		err := s.elements(func(int) error { return r.inputToken(s, name) })
		if err == nil && r.inputTokens == before {
			err = badParam(Path(name, i, ""), "must not be empty")
		}
		return err
	})
	if err == nil && r.inputs == 0 {
		err = badParam(name, "must not be empty")
	}
	return err
}

func (r *Request) inputText(s *scanner) error {
	raw, escaped, err := s.str()
	n := len(raw)
	if escaped && err == nil {
		n = len(unescape(raw))
	}
	r.inputs++
	r.bytesOfText += int64(n)
	return err
}

// inputToken reads the id of a token.
func (r *Request) inputToken(s *scanner, name string) error {
	from := s.i
	if s.i >= len(s.b) || s.b[s.i] != '-' && (s.b[s.i] < '0' || s.b[s.i] > '9') {
		return s.wrong(name, "texts or token ids")
	}
	if err := s.number(); err != nil {
		return err
	}
	for _, c := range s.b[from:s.i] {
		if c < '0' || c > '9' {
			return badParam(name, "has %.32q among its token ids", s.b[from:s.i])
		}
	}
	if r.inputTokens++; r.inputTokens > InputTokensMax {
		return badParam(name, "must have at most %d token ids", InputTokensMax)
	}
	return nil
}

// tokensPerInput is what vendors may add to a text: a beginning and an end.
const tokensPerInput = 4

// InputEstimate is about the input tokens of a request that is passed through: four bytes of a text are one.
func (r *Request) InputEstimate() int {
	return int(r.inputTokens + (r.bytesOfText+3)/4)
}
