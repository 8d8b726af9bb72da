"""The bucket and its rules as AWS CloudFormation templates; the local server takes its rules from the same files."""
