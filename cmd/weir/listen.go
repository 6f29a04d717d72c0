package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"weir/internal/listen"
)

// listenAddr is where a listener listens: host:port, unix:PATH, or empty for
// a listener that is off. Values come from addrValue.parse and are what
// package listen takes.
type listenAddr string

// unixPrefix marks the path of a unix socket.
const unixPrefix = "unix:"

// off reports whether the listener is switched off.
func (a listenAddr) off() bool { return a == "" }

// socket returns the path of a unix socket, and whether a is one.
func (a listenAddr) socket() (path string, ok bool) { return listen.SocketPath(string(a)) }

// isURL reports whether a says how to call a listener, not where to listen.
func (a listenAddr) isURL() bool { return strings.Contains(string(a), "://") }

// local reports whether only this machine can reach the listener: it is off,
// a unix socket, or bound to loopback.
func (a listenAddr) local() bool { return a.off() || !listen.Exposed(string(a)) }

// addrValue is the address of a listener.
type addrValue struct {
	to    *listenAddr
	orURL bool // http://host:port and https://host:port are taken too
}

func (v addrValue) shape() yamlShape { return shapeText }
func (v addrValue) expect() string {
	if v.orURL {
		return "an address such as 127.0.0.1:4319, unix:/run/weir.sock, or off; to call a weir elsewhere also https://weir.internal:4319"
	}
	return "an address such as 127.0.0.1:4317, unix:/run/weir.sock, or off"
}

func (v addrValue) String() string {
	if v.to.off() {
		return "off"
	}
	return string(*v.to)
}

func (v addrValue) parse(text string) error {
	text = strings.TrimSpace(text)
	switch {
	case text == "" || strings.EqualFold(text, "off"):
		*v.to = ""
		return nil
	case strings.HasPrefix(text, unixPrefix):
		path := strings.TrimPrefix(strings.TrimPrefix(text, unixPrefix), "//")
		if path == "" {
			return fmt.Errorf("%s names no path", quoted(text))
		}
		*v.to = listenAddr(unixPrefix + path)
		return nil
	case v.orURL && (strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")):
		scheme, rest, _ := strings.Cut(text, "://")
		rest = strings.TrimSuffix(rest, "/")
		if err := checkHostPort(rest); err != nil {
			return err
		}
		*v.to = listenAddr(scheme + "://" + rest)
		return nil
	case strings.Contains(text, "://"):
		return fmt.Errorf("%s is a URL: leave out the scheme", quoted(text))
	}
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		return fmt.Errorf("%s names no host", quoted(text))
	}
	if err := checkHostPort(text); err != nil {
		return err
	}
	*v.to = listenAddr(text)
	return nil
}

// checkHostPort refuses what net.Listen could not take, without resolving
// anything.
func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		if addrErr, ok := errors.AsType[*net.AddrError](err); ok {
			return fmt.Errorf("%s: %s", quoted(text), addrErr.Err)
		}
		return fmt.Errorf("%s is not an address: %w", quoted(text), err)
	}
	if strings.ContainsAny(host, "/ *?#@") {
		return fmt.Errorf("%s names no valid host", quoted(text))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: port %s is not a number from 0 to 65535", quoted(text), quoted(port))
	}
	return nil
}
