package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/alecthomas/kong"

	"weir/proto/weir/v1/weirv1connect"
)

// adminFlags are the flags of commands that talk to a running weir. They read
// the same configuration as `weir run`, so that both agree on the address.
type adminFlags struct {
	configFlag
	kong.Plugins
}

// adminCall is one command's line to a running weir.
type adminCall struct {
	client weirv1connect.AdminServiceClient
	addr   listenAddr
	from   string // where the address comes from
}

// dial prepares the calls; nothing is sent yet.
func (f *adminFlags) dial(inv *invocation) (*adminCall, error) {
	s, err := inv.settings(f.configFlag)
	if err != nil {
		return nil, err
	}
	if s.AdminAddr.off() {
		return nil, &exitError{code: exitUsage, err: fmt.Errorf(
			"admin_addr is off (%s): there is no address to call; give one with --admin-addr", s.from("admin_addr"))}
	}
	client, err := s.dialAdmin()
	if err != nil {
		return nil, err
	}
	return &adminCall{
		client: client,
		addr:   s.AdminAddr,
		from:   s.from("admin_addr"),
	}, nil
}

// explain turns the error of a call into one for people, with the exit code
// that tells a weir that is not there from one that refused.
func (c *adminCall) explain(operation string, err error) error {
	trouble := tlsTrouble(c.addr, err)
	switch code := connect.CodeOf(err); {
	case errors.Is(err, context.Canceled) || code == connect.CodeCanceled:
		return fmt.Errorf("%s: interrupted", operation)
	case trouble != "":
		return &exitError{code: exitUnreachable, err: fmt.Errorf("%s: %s", operation, trouble)}
	case code == connect.CodeUnauthenticated && !strings.Contains(err.Error(), "client certificate"):
		return fmt.Errorf("%s: weir at %s wants its admin token: set WEIR_ADMIN_TOKEN or --admin-token-file", operation, c.addr)
	case code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied:
		return fmt.Errorf("%s: weir at %s refuses: %w", operation, c.addr, cause(err))
	case code == connect.CodeUnavailable || code == connect.CodeDeadlineExceeded:
		return &exitError{code: exitUnreachable, err: fmt.Errorf(
			"%s: no weir answers at %s (admin_addr, %s): %w\nStart one with `weir run`, or say where it is with --admin-addr",
			operation, c.addr, c.from, cause(err))}
	case code == connect.CodeUnimplemented || code == connect.CodeUnknown:
		return &exitError{code: exitUnreachable, err: fmt.Errorf(
			"%s: what answers at %s (admin_addr, %s) is not weir's admin API: %w", operation, c.addr, c.from, cause(err))}
	default:
		return fmt.Errorf("%s: %w", operation, cause(err))
	}
}

// cause strips the code that connect puts before its messages.
func cause(err error) error {
	if connectErr, ok := errors.AsType[*connect.Error](err); ok && connectErr.Unwrap() != nil {
		return connectErr.Unwrap()
	}
	return err
}
