package leanjson

import "encoding/json"

// deep is how many lists and objects may lie in each other before encoding/json decides.
const deep = 500

// valid is json.Valid.
func valid(data []byte) bool {
	c := checker{data: data}
	c.space()
	ok := c.value(0)
	c.space()
	if c.deep {
		return json.Valid(data)
	}
	return ok && c.at == len(data)
}

type checker struct {
	data []byte
	at   int
	deep bool
}

func (c *checker) space() {
	for c.at < len(c.data) {
		switch c.data[c.at] {
		case ' ', '\t', '\r', '\n':
			c.at++
		default:
			return
		}
	}
}

// take goes over a byte, if it is the next one.
func (c *checker) take(b byte) bool {
	if c.at < len(c.data) && c.data[c.at] == b {
		c.at++
		return true
	}
	return false
}

func (c *checker) value(depth int) bool {
	if c.at >= len(c.data) {
		return false
	}
	switch b := c.data[c.at]; b {
	case '{', '[':
		if depth == deep {
			c.deep = true
			return false
		}
		c.at++
		return c.members(b+2, depth+1)
	case '"':
		return c.text()
	case 't':
		return c.word("true")
	case 'f':
		return c.word("false")
	case 'n':
		return c.word("null")
	}
	return c.number()
}

// members goes to the end of an object or list.
func (c *checker) members(end byte, depth int) bool {
	if c.space(); c.take(end) {
		return true
	}
	for {
		if end == '}' {
			c.space()
			if c.at >= len(c.data) || c.data[c.at] != '"' || !c.text() {
				return false
			}
			if c.space(); !c.take(':') {
				return false
			}
		}
		if c.space(); !c.value(depth) {
			return false
		}
		if c.space(); c.take(end) {
			return true
		}
		if !c.take(',') {
			return false
		}
	}
}

func (c *checker) word(w string) bool {
	if end := c.at + len(w); end <= len(c.data) && string(c.data[c.at:end]) == w {
		c.at = end
		return true
	}
	return false
}

func (c *checker) text() bool {
	for c.at++; c.at < len(c.data); c.at++ {
		switch b := c.data[c.at]; {
		case b == '"':
			c.at++
			return true
		case b < ' ':
			return false
		case b == '\\':
			if c.at++; c.at == len(c.data) {
				return false
			}
			switch c.data[c.at] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if c.at++; c.at == len(c.data) || !isHex(c.data[c.at]) {
						return false
					}
				}
			default:
				return false
			}
		}
	}
	return false
}

func isHex(b byte) bool { return isDigit(b) || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F' }

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func (c *checker) digits() bool {
	start := c.at
	for c.at < len(c.data) && isDigit(c.data[c.at]) {
		c.at++
	}
	return c.at > start
}

func (c *checker) number() bool {
	c.take('-')
	if !c.take('0') && !c.digits() {
		return false
	}
	if c.take('.') && !c.digits() {
		return false
	}
	if c.take('e') || c.take('E') {
		if !c.take('+') {
			c.take('-')
		}
		return c.digits()
	}
	return true
}
