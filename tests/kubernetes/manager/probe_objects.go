// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/util/retry"
)

// objectSteps write.
var objectSteps = []step{
	{"secret, all verbs", secretVerbs},
	{"config map, optimistic concurrency", configMapConflict},
	{"lease, microseconds", leaseTimes},
	{"core event, created and patched", coreEvent},
	{"event of events.k8s.io seen as core event", newEvent},
	{"service account and namespace", accountAndNamespace},
	{"errors as a Go program tells them apart", errorKinds},
	{"apply configuration, conflict, force", applyConflict},
	{"apply from extracted configuration", applyExtracted},
	{"dry run", dryRun},
	{"delete with preconditions, collection", deletions},
	{"access review", accessReview},
}

func secretVerbs(ctx context.Context, c *clients) error {
	secrets := c.typed.CoreV1().Secrets(c.namespace)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-", Labels: map[string]string{"probe": "secret"}},
		StringData: map[string]string{"password": "swordfish"},
		Data:       map[string][]byte{"bytes": {0, 255, 10}, "empty": {}},
	}
	created, err := secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: "probe"})
	if err != nil {
		return err
	}
	read, err := secrets.Get(ctx, created.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	err = errors.Join(
		same("type", read.Type, corev1.SecretTypeOpaque),
		same("password", string(read.Data["password"]), "swordfish"),
		same("bytes", read.Data["bytes"], []byte{0, 255, 10}),
		same("number of keys", len(read.Data), 3),
		same("manager", read.ManagedFields[0].Manager, "probe"),
		same("operation", read.ManagedFields[0].Operation, metav1.ManagedFieldsOperationUpdate),
	)
	if err != nil {
		return err
	}
	immutable := true
	read.Immutable = &immutable
	if read, err = secrets.Update(ctx, read, metav1.UpdateOptions{}); err != nil {
		return err
	}
	read.Data["bytes"] = []byte{1}
	if _, err = secrets.Update(ctx, read, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		return fmt.Errorf("an immutable Secret was changed, or: %w", err)
	}
	strategic := []byte(`{"metadata":{"labels":{"probe":null,"patched":"yes"}}}`)
	patched, err := secrets.Patch(ctx, created.Name, types.StrategicMergePatchType, strategic, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	if err := same("labels", patched.Labels, map[string]string{"patched": "yes"}); err != nil {
		return err
	}
	if err := secrets.Delete(ctx, created.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if _, err := secrets.Get(ctx, created.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("a deleted Secret is there, or: %w", err)
	}
	return nil
}

func configMapConflict(ctx context.Context, c *clients) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe-conflict"}, Data: map[string]string{"n": "0"}}
	first, err := maps.Create(ctx, wanted, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	defer maps.Delete(ctx, first.Name, metav1.DeleteOptions{})
	second := first.DeepCopy()
	second.Data["n"] = "1"
	if second, err = maps.Update(ctx, second, metav1.UpdateOptions{}); err != nil {
		return err
	}
	first.Data["n"] = "2"
	if _, err = maps.Update(ctx, first, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("an old version was written, or: %w", err)
	}
	again, err := maps.Update(ctx, second.DeepCopy(), metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	if err := same("version after an update without a change", again.ResourceVersion, second.ResourceVersion); err != nil {
		return err
	}
	tries := 0
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := maps.Get(ctx, first.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if tries++; tries == 1 {
			current.ResourceVersion = first.ResourceVersion
		}
		current.Data["n"] = "3"
		_, err = maps.Update(ctx, current, metav1.UpdateOptions{})
		return err
	})
}

func leaseTimes(ctx context.Context, c *clients) error {
	leases := c.typed.CoordinationV1().Leases(c.namespace)
	holder, seconds, transitions := "", int32(15), int32(0)
	now := metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC))
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "probe-lease"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: &seconds, LeaseTransitions: &transitions,
			AcquireTime: &now, RenewTime: &now,
		},
	}
	created, err := leases.Create(ctx, lease, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	defer leases.Delete(ctx, lease.Name, metav1.DeleteOptions{})
	if created.Spec.HolderIdentity == nil || created.Spec.RenewTime == nil || created.Spec.LeaseTransitions == nil {
		return fmt.Errorf("fields were lost: %v", created.Spec)
	}
	return errors.Join(
		same("holder", *created.Spec.HolderIdentity, ""),
		same("transitions", *created.Spec.LeaseTransitions, int32(0)),
		same("renewal", created.Spec.RenewTime.UTC(), now.UTC()),
	)
}

func coreEvent(ctx context.Context, c *clients) error {
	sink := c.typed.CoreV1().Events(c.namespace)
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: "probe-core.1", Namespace: c.namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "ConfigMap", Namespace: c.namespace, Name: "any", UID: "u", APIVersion: "v1"},
		Reason:         "Probed", Message: "once", Type: corev1.EventTypeNormal,
		Source: corev1.EventSource{Component: "probe"}, FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	created, err := sink.CreateWithEventNamespace(event)
	if err != nil {
		return err
	}
	patched, err := sink.PatchWithEventNamespace(created, []byte(`{"count":2,"message":"twice"}`))
	if err != nil {
		return err
	}
	selector := "involvedObject.kind=ConfigMap,involvedObject.name=any,reason=Probed"
	found, err := sink.List(ctx, metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		return err
	}
	return errors.Join(
		same("count", patched.Count, int32(2)),
		same("message", patched.Message, "twice"),
		same("events found by field", len(found.Items), 1),
		sink.Delete(ctx, event.Name, metav1.DeleteOptions{}),
	)
}

func newEvent(ctx context.Context, c *clients) error {
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "probe-new.1", Namespace: c.namespace},
		EventTime:  metav1.NewMicroTime(time.Now()), ReportingController: "tests.invalid/probe", ReportingInstance: "probe-1",
		Action: "Probe", Reason: "Probed", Note: "seen", Type: corev1.EventTypeNormal,
		Regarding: corev1.ObjectReference{Kind: "ConfigMap", Namespace: c.namespace, Name: "any", APIVersion: "v1"},
	}
	if _, err := c.typed.EventsV1().Events(c.namespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		return err
	}
	core, err := c.typed.CoreV1().Events(c.namespace).Get(ctx, event.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return errors.Join(
		same("message", core.Message, "seen"),
		same("involved object", core.InvolvedObject.Name, "any"),
		same("reporting component", core.ReportingController, "tests.invalid/probe"),
		c.typed.EventsV1().Events(c.namespace).Delete(ctx, event.Name, metav1.DeleteOptions{}),
	)
}

func accountAndNamespace(ctx context.Context, c *clients) error {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}}
	created, err := c.typed.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
	if _, err := c.typed.CoreV1().ServiceAccounts(created.Name).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	err = errors.Join(
		same("phase", created.Status.Phase, corev1.NamespaceActive),
		same("label", created.Labels["kubernetes.io/metadata.name"], created.Name),
	)
	return errors.Join(err, c.typed.CoreV1().Namespaces().Delete(ctx, created.Name, metav1.DeleteOptions{}))
}

func errorKinds(ctx context.Context, c *clients) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	_, missing := maps.Get(ctx, "probe-none", metav1.GetOptions{})
	_, invalid := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "Not Valid"}}, metav1.CreateOptions{})
	once := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe-once"}}
	if _, err := maps.Create(ctx, once, metav1.CreateOptions{}); err != nil {
		return err
	}
	defer maps.Delete(ctx, once.Name, metav1.DeleteOptions{})
	_, exists := maps.Create(ctx, once, metav1.CreateOptions{})
	_, unknown := c.dynamic.Resource(tinkerbell.WithResource("nothing")).Namespace(c.namespace).Get(ctx, "x", metav1.GetOptions{})
	var status apierrors.APIStatus
	if !errors.As(invalid, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 {
		return fmt.Errorf("no causes in %w", invalid)
	}
	return errors.Join(
		same("missing", apierrors.IsNotFound(missing), true),
		same("message of missing", fmt.Sprint(missing), `configmaps "probe-none" not found`),
		same("invalid", apierrors.IsInvalid(invalid), true),
		same("field", status.Status().Details.Causes[0].Field, "metadata.name"),
		same("exists", apierrors.IsAlreadyExists(exists), true),
		same("message of exists", fmt.Sprint(exists), `configmaps "probe-once" already exists`),
		same("unknown resource", fmt.Sprint(unknown), "the server could not find the requested resource"),
	)
}

func applyConflict(ctx context.Context, c *clients) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	wanted := func(value string) *corev1apply.ConfigMapApplyConfiguration {
		return corev1apply.ConfigMap("probe-apply", c.namespace).WithData(map[string]string{"key": value})
	}
	if _, err := maps.Apply(ctx, wanted("a"), metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		return err
	}
	defer maps.Delete(ctx, "probe-apply", metav1.DeleteOptions{})
	_, err := maps.Apply(ctx, wanted("b"), metav1.ApplyOptions{FieldManager: "two"})
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) {
		return fmt.Errorf("no conflict but %w", err)
	}
	causes := status.Status().Details.Causes
	if len(causes) != 1 {
		return fmt.Errorf("%d causes", len(causes))
	}
	forced, err := maps.Apply(ctx, wanted("b"), metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil {
		return err
	}
	return errors.Join(
		same("cause", causes[0].Type, metav1.CauseTypeFieldManagerConflict),
		same("field", causes[0].Field, ".data.key"),
		same("message", causes[0].Message, `conflict with "one"`),
		same("value", forced.Data["key"], "b"),
	)
}

func applyExtracted(ctx context.Context, c *clients) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	wanted := corev1apply.ConfigMap("probe-extract", c.namespace).WithData(map[string]string{"a": "1", "b": "2"})
	applied, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "probe"})
	if err != nil {
		return err
	}
	defer maps.Delete(ctx, applied.Name, metav1.DeleteOptions{})
	extracted, err := corev1apply.ExtractConfigMap(applied, "probe")
	if err != nil {
		return err
	}
	delete(extracted.Data, "b")
	if applied, err = maps.Apply(ctx, extracted, metav1.ApplyOptions{FieldManager: "probe"}); err != nil {
		return err
	}
	return same("data", applied.Data, map[string]string{"a": "1"})
}

func dryRun(ctx context.Context, c *clients) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	dry := []string{metav1.DryRunAll}
	wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe-dry"}}
	shown, err := maps.Create(ctx, wanted, metav1.CreateOptions{DryRun: dry})
	if err != nil {
		return err
	}
	if _, err := maps.Get(ctx, wanted.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("a dry run created, or: %w", err)
	}
	if _, err := maps.Create(ctx, wanted, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := maps.Delete(ctx, wanted.Name, metav1.DeleteOptions{DryRun: dry}); err != nil {
		return err
	}
	return errors.Join(
		same("uid is shown", shown.UID != "", true),
		maps.Delete(ctx, wanted.Name, metav1.DeleteOptions{}),
	)
}

func deletions(ctx context.Context, c *clients) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	label := map[string]string{"probe": "collection"}
	var created *corev1.ConfigMap
	for range 3 {
		var err error
		wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-", Labels: label}}
		if created, err = maps.Create(ctx, wanted, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	other := types.UID("another")
	err := maps.Delete(ctx, created.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("another object was deleted, or: %w", err)
	}
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{
		PropagationPolicy: &background,
		Preconditions:     &metav1.Preconditions{UID: &created.UID, ResourceVersion: &created.ResourceVersion},
	}
	if err := maps.Delete(ctx, created.Name, options); err != nil {
		return err
	}
	all := metav1.ListOptions{LabelSelector: "probe in (collection)"}
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, all); err != nil {
		return err
	}
	left, err := maps.List(ctx, all)
	if err != nil {
		return err
	}
	return same("left", len(left.Items), 0)
}

func accessReview(ctx context.Context, c *clients) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: c.namespace, Verb: "get", Resource: "secrets", Name: "any"},
	}}
	seen, err := c.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return same("allowed", seen.Status.Allowed, true)
}
