"""The bucket's rules: what the CloudFormation template says of policy, lifecycle and rights, for the local server.

Who may do what is written in one place, `infra/aws/bucket.yaml`. What the local server can't hold to is left out by
name: the statements of its policy that end in `OnAws`.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from string import Template
from typing import Any

import yaml

AWS_ONLY = "OnAws"
ARN = "arn:aws:s3:::"

# What SeaweedFS calls the right to do what AWS calls so.
RIGHTS = {
    "s3:GetObject": "Read",
    "s3:GetObjectVersion": "Read",
    "s3:ListBucket": "List",
    "s3:ListBucketVersions": "List",
    "s3:PutObject": "Write",
    "s3:AbortMultipartUpload": "Write",
    "s3:GetObjectRetention": "GetObjectRetention",
    "s3:PutObjectRetention": "PutObjectRetention",
    "s3:GetObjectTagging": "Tagging",
    "s3:GetObjectVersionTagging": "Tagging",
    "s3:PutObjectTagging": "Tagging",
    "s3:DeleteObjectTagging": "Tagging",
    "s3:DeleteObjectVersionTagging": "Tagging",
}


def bucket_name() -> str:
    """The bucket's name, as it is where nobody chooses another."""
    return resources()["Bucket"]["Properties"]["BucketName"]


def bucket_policy() -> dict[str, Any]:
    """What nobody may do in the bucket, whatever their rights."""
    document = resources()["BucketPolicy"]["Properties"]["PolicyDocument"]
    kept = [statement for statement in document["Statement"] if not statement["Sid"].endswith(AWS_ONLY)]
    return document | {"Statement": kept}


def lifecycle() -> dict[str, Any]:
    """Which objects expire, in the form in which S3 is told."""
    rules = resources()["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    return {"Rules": [_told(rule) for rule in rules]}


def rights(role: str) -> list[str]:
    """What a role may do in the bucket, in the local server's words, sorted."""
    given = resources()[role.capitalize()]["Properties"]
    documents = [
        *(resources()[name]["Properties"]["PolicyDocument"] for name in given.get("ManagedPolicyArns", ())),
        *(policy["PolicyDocument"] for policy in given.get("Policies", ())),
    ]
    return sorted(
        {
            f"{RIGHTS[action]}:{_where(arn)}"
            for document in documents
            for statement in document["Statement"]
            for action in statement["Action"]
            for arn in ([statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"])
        }
    )


@lru_cache
def resources() -> dict[str, Any]:
    """The template's resources, with the defaults of its parameters."""
    text = files("infra.aws").joinpath("bucket.yaml").read_text(encoding="utf-8")
    parameters = _parsed(text, {})["Parameters"]
    defaults = {name: parameter["Default"] for name, parameter in parameters.items() if "Default" in parameter}
    return _parsed(Template(text).safe_substitute(defaults), defaults)["Resources"]


def _parsed(text: str, values: dict[str, Any]) -> dict[str, Any]:
    """A template in which what CloudFormation would fill in is a value, or else the name that stands there."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda _loader, _suffix, node: values.get(node.value, node.value))
    return yaml.load(text, Loader=Loader)  # noqa: S506  a SafeLoader


def _told(rule: dict[str, Any]) -> dict[str, Any]:
    """A lifecycle rule of CloudFormation in the form in which S3 is told it."""
    tags = rule.get("TagFilters", ())
    told = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Tag": tags[0]} if tags else {"Prefix": ""}}
    if "ExpirationInDays" in rule:
        told["Expiration"] = {"Days": rule["ExpirationInDays"]}
    same = ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    return told | {name: rule[name] for name in same if name in rule}


def _where(arn: str) -> str:
    """A resource in the local server's words: a bucket, or a beginning of keys in it."""
    bucket, _, keys = arn.removeprefix(ARN).partition("/")
    return f"{bucket}/{keys}" if keys.strip("*") else bucket
