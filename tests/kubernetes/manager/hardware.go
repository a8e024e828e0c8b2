// SPDX-License-Identifier: Apache-2.0

package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	tinkerbell  = schema.GroupVersion{Group: "tinkerbell.org", Version: "v1alpha1"}
	workflowGVK = tinkerbell.WithKind("Workflow")
)

// Hardware is the part of the resource that this program looks at. It must only ever be patched: an update would drop
// what is not declared here.
type Hardware struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              HardwareSpec   `json:"spec,omitempty"`
	Status            HardwareStatus `json:"status,omitempty"`
}

// HardwareSpec is what the administrator says.
type HardwareSpec struct {
	Interfaces []Interface `json:"interfaces,omitempty"`
}

// Interface is a network interface.
type Interface struct {
	DHCP *DHCP `json:"dhcp,omitempty"`
}

// DHCP is what an interface is told.
type DHCP struct {
	MAC string `json:"mac,omitempty"`
}

// HardwareStatus is what was seen.
type HardwareStatus struct {
	State string `json:"state,omitempty"`
}

// HardwareList is a list of Hardware.
type HardwareList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Hardware `json:"items"`
}

// DeepCopy copies all of it.
func (h *Hardware) DeepCopy() *Hardware {
	out := &Hardware{TypeMeta: h.TypeMeta, Status: h.Status}
	h.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	for _, card := range h.Spec.Interfaces {
		if card.DHCP != nil {
			dhcp := *card.DHCP
			card.DHCP = &dhcp
		}
		out.Spec.Interfaces = append(out.Spec.Interfaces, card)
	}
	return out
}

// DeepCopyObject copies all of it.
func (h *Hardware) DeepCopyObject() runtime.Object { return h.DeepCopy() }

// DeepCopyObject copies all of it.
func (l *HardwareList) DeepCopyObject() runtime.Object {
	out := &HardwareList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for index := range l.Items {
		out.Items = append(out.Items, *l.Items[index].DeepCopy())
	}
	return out
}

func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(tinkerbell, &Hardware{}, &HardwareList{})
	metav1.AddToGroupVersion(scheme, tinkerbell)
}
