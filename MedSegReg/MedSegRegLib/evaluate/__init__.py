"""How good a result is: scores of label maps, quality of deformations, tables and pictures of both."""
