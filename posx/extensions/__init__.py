"""Test-time extensions, which adapt a trained model to longer inputs. ``configs/extension`` lists them."""
