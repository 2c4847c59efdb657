// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"github.com/spf13/cobra"

	"github.com/jurat-dev/jurat/cmd/jurat/internal/brokerapi"
)

// operator returns the client for what only an operator may do.
func (a *app) operator() *brokerapi.Client { return brokerapi.Operator(a.admin) }

// public returns the client for the broker's public API.
func (a *app) public(c *cobra.Command) (*brokerapi.Client, error) {
	if a.broker == "" {
		return nil, usage(c, "which broker? --broker URL or JURAT_BROKER says")
	}
	client, err := brokerapi.Public(a.broker)
	if err != nil {
		return nil, usage(c, "%v", err)
	}
	return client, nil
}

// anyBroker returns the operator socket if it was named, the public API if that
// was, and otherwise whichever there is.
func (a *app) anyBroker() (*brokerapi.Client, error) {
	named := a.set["broker"] && !(a.fromEnv && exists(a.admin))
	if a.set["admin"] || !named {
		return a.operator(), nil
	}
	return brokerapi.Public(a.broker)
}
