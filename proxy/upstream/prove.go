package upstream

import "slices"

// Whether an upstream takes OTLP in an encoding, its answer does not say: the
// endpoint answers 200 before it looks (LangSmith docs:
// trace-with-opentelemetry). Only a trace that was sent so and read back does.

// Prove notes that a trace sent in an encoding was read back, or that one was
// not although others were. EncodingAuto uses what is proven from then on. A
// refusal that was known before is forgotten where there is proof.
func (c *Client) Prove(e Encoding, readBack bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proven = slices.DeleteFunc(c.proven, func(p Encoding) bool { return p == e })
	if readBack {
		c.proven = append(c.proven, e)
		c.refused.encodings = slices.DeleteFunc(c.refused.encodings, func(r Encoding) bool { return r == e })
	}
}

// Automatic reports whether the client chooses the encoding of OTLP itself.
func (c *Client) Automatic() bool { return c.cfg.Encoding == EncodingAuto }

// Proven reports whether a trace sent in an encoding was read back.
func (c *Client) Proven(e Encoding) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.proven, e)
}

// Refused reports whether the upstream is known not to take OTLP in an encoding.
func (c *Client) Refused(e Encoding) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.refused.encodings, e)
}

// automatic is the encoding that EncodingAuto begins with.
func (c *Client) automatic() Encoding {
	if c.Proven(EncodingZstd) {
		return EncodingZstd
	}
	return EncodingGzip
}
