// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools names the programs whose versions go.mod keeps: what a node of the tests' clusters runs besides what is in ../kubernetes.
package tools

import (
	_ "github.com/kube-vip/kube-vip"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
