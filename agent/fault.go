// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/jurat-dev/jurat/agent/internal/logstore"
	"github.com/jurat-dev/jurat/agent/local"
	brokerclient "github.com/jurat-dev/jurat/broker-client"
)

// The codes of agent/local under short names.
const (
	codeRequest     = local.CodeRequest
	codePeer        = local.CodePeer
	codeForbidden   = local.CodeForbidden
	codeBusy        = local.CodeBusy
	codeDeadline    = local.CodeDeadline
	codeUnreachable = local.CodeUnreachable
	codeRefused     = local.CodeRefused
	codeBrokerLog   = local.CodeBrokerLog
	codeTPM         = local.CodeTPM
	codeSensor      = local.CodeSensor
	codeLog         = local.CodeLog
	codeEpoch       = local.CodeEpoch
	codeAnchor      = local.CodeAnchor
	codeTooLarge    = local.CodeTooLarge
	codeNone        = local.CodeNone
	codeInternal    = local.CodeInternal
	codeExited      = local.CodeExited
	codeExec        = local.CodeExec
	codeTaint       = local.CodeTaint
	codeLoss        = local.CodeLoss
	codeUnmeasured  = local.CodeUnmeasured
	codePrivate     = local.CodePrivate
	codeTraced      = local.CodeTraced
	codeChanged     = local.CodeChanged
	codeContext     = local.CodeContext
	codeUnknown     = local.CodeUnknown
)

// fault returns what the caller on the socket is told.
func fault(code, format string, args ...any) *local.Error {
	return &local.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// faultOf makes of any error what the caller is told. An error without a code
// of its own gets the given one.
func faultOf(code string, err error) *local.Error {
	if f, ok := errors.AsType[*local.Error](err); ok {
		return f
	}
	switch r, refused := errors.AsType[*brokerclient.Refusal](err); {
	case refused:
		f := &local.Error{Code: codeRefused, Message: r.Op + ": " + r.Code, Txn: r.Txn, Retry: r.Retry}
		if r.Reason != "" {
			f.Message += " (" + r.Reason + ")"
		}
		if r.Description != "" {
			f.Message += ": " + r.Description
		}
		for _, c := range r.Failed {
			f.Failed = append(f.Failed, local.Check(c))
		}
		if r.Temporary() {
			f.Code = codeUnreachable
		}
		return f
	case errors.Is(err, logstore.ErrBroken):
		return fault(codeLog, "%v", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault(codeDeadline, "%v", err)
	}
	if _, ok := errors.AsType[*brokerclient.Unreachable](err); ok {
		return fault(codeUnreachable, "%v", err)
	}
	if _, ok := errors.AsType[*brokerclient.BadAnswer](err); ok {
		return fault(codeUnreachable, "%v", err)
	}
	return fault(code, "%v", err)
}
